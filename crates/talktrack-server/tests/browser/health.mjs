// The server's health, followed as it changes, and a dead letter brought back and another let go, with the keyboard alone.

import { Agent, assert, browse, until } from './lib.mjs'

const count = async (page, id) => Number(await page.locator(`#${id}`).getAttribute('value'))

await browse(async (visit, open) => {
  const { page } = visit
  await visit.open('/health')
  await visit.axe('/health')
  await page.locator('.letter details').first().evaluate((one) => { one.open = true })
  await visit.axe('/health, a letter unfolded')
  await visit.shot('health', (page) => page.locator('.letter details').first().evaluate((one) => { one.open = true }))

  const stored = await count(page, 'stored')
  const agent = await Agent.connect({ user_id: crypto.randomUUID() })
  await agent.say('user', 'Is anybody there?')
  await until('the figures follow by themselves', async () => (await count(page, 'stored')) === stored + 1)
  await agent.end()

  await page.locator('body').focus()
  await visit.tabTo('a letter to replay', ({ text }) => /^Replay letter/.test(text))
  await page.keyboard.press('Enter')
  await page.waitForURL('**/health/replay')
  assert.match(await page.locator('main').innerText(), /1 letter replayed, and refused again/)
  await visit.axe('what became of it')

  await visit.open('/health')
  const letters = await page.locator('.letter').count()
  await visit.tabTo('a letter to drop', ({ text }) => /^Drop… letter/.test(text))
  await page.keyboard.press('Enter')
  await page.waitForURL('**/health/drop?letter=*')
  assert.match(await page.locator('main').innerText(), /Drop this dead letter\?/)
  await visit.axe('the question')
  await visit.tabTo('the confirmation', ({ text }) => text === 'Drop it')
  await page.keyboard.press('Enter')
  await page.getByText('1 letter dropped').waitFor()
  await page.getByRole('link', { name: 'To the dead letters' }).click()
  assert.equal(await page.locator('.letter').count(), letters - 1)

  await page.locator('.letter a[href^="/health/letters/"]').first().click()
  await visit.axe('a letter')
  const phone = await open({ size: 'phone' })
  await phone.open(new URL(page.url()).pathname)
  await phone.fits()
})
