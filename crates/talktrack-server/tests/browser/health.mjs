// The page of the server's health, with a store that refuses messages that begin with "poison".

import { randomUUID } from 'node:crypto'

import { Agent, assert, browse, until } from './lib.mjs'

await browse(async (visit) => {
  const { page } = visit
  page.on('dialog', () => assert.fail('a dialog was opened'))
  const figure = async (name) => Number(await page.locator(`id=${name}`).getAttribute('value'))

  await visit.open('/health')
  assert.match(await page.getByRole('main').innerText(), /All is well/)
  assert.equal(await figure('letters'), 0)
  await page.evaluate(() => (window.isTheSame = true))

  // The figures are updated without a reload of the page.
  const agent = await Agent.connect({ user_id: randomUUID() })
  await agent.say('user', 'good')
  for (const words of ['one', '<img src=x onerror="window.isOwned=true">']) await agent.say('user', `poison ${words}`)
  await until('the letters are counted', async () => (await figure('letters')) === 2)
  assert.equal(await figure('stored'), 1)
  assert.ok(await page.evaluate(() => window.isTheSame))

  // On a large screen, the stages are in one row.
  await visit.open('/health')
  const stages = await page.locator('#path .stage').evaluateAll((all) => all.map((one) => one.getBoundingClientRect().top))
  assert.equal(new Set(stages.map(Math.round)).size, 1, `${stages}`)
  assert.equal(await page.locator('.letter').count(), 2)
  await visit.axe('health')
  await visit.fits()
  await visit.shot('health')
  await page.locator('.letter summary').first().click()
  assert.match(await page.locator('.letter pre').first().innerText(), /poison <img src=x/)
  assert.ok(!(await page.evaluate(() => window.isOwned)))

  // A dead letter can be read, and dropped after the page has shown what will be removed.
  await page.locator('.letter').first().getByRole('link', { name: /^letter/ }).click()
  await page.waitForURL(/\/health\/letters\//)
  await visit.axe('a dead letter')
  await page.getByRole('link', { name: 'Drop…' }).click()
  await page.waitForURL(/\/health\/drop/)
  assert.match(await page.getByRole('main').innerText(), /permanently deletes letter/)
  await visit.axe('the question before a letter is dropped')
  await page.getByRole('link', { name: 'Keep it' }).click()
  await page.locator('.letter').first().getByRole('link', { name: /^Drop…/ }).click()
  await page.getByRole('button', { name: 'Drop it' }).click()
  await page.getByRole('link', { name: 'Back to the dead letters' }).click()
  assert.equal(await page.locator('.letter').count(), 1)

  // The other dead letter is replayed; the store refuses it again, and the page says so.
  await page.getByRole('button', { name: /^Replay letter/ }).click()
  await page.getByRole('link', { name: 'Back to the dead letters' }).waitFor()
  await visit.axe('what became of a letter')
  await visit.open('/health')
  await until('it lies there again', async () => (await figure('letters')) === 1)
  await agent.end()
})
