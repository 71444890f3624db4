// Pages that show events live, starting with an empty server. A mark in the window proves that no page is reloaded.

import { randomUUID } from 'node:crypto'

import { Agent, assert, browse, until } from './lib.mjs'

await browse(async (visit, another) => {
  const { page } = visit
  const stays = async (page) => assert.ok(await page.evaluate(() => window.isTheSame), 'the page was loaded again')
  const mark = (page) => page.evaluate(() => (window.isTheSame = true))

  // The empty page explains how to begin.
  await visit.open('/')
  assert.ok(await page.getByRole('heading', { name: 'No conversation yet' }).isVisible())
  assert.match(await page.getByRole('main').innerText(), new RegExp(`ws://${new URL(page.url()).host}/v1/ws`))
  await visit.axe('the empty list')
  await visit.fits()
  await visit.shot('empty')
  await mark(page)

  // A new conversation appears with its last words.
  const agent = await Agent.connect({ user_id: randomUUID() })
  const row = page.locator(`id=s-${agent.session}`)
  await row.waitFor()
  assert.ok(await row.getByText('live', { exact: true }).isVisible())
  assert.equal(await page.locator('#empty').count(), 0)
  await agent.say('user', 'Is anybody there?')
  await row.getByText('Is anybody there?').waitFor()

  // The page of the conversation is updated too.
  const reader = await another({ scheme: 'dark' })
  await reader.open(`/sessions/${agent.session}`)
  await mark(reader.page)
  const words = reader.page.locator('.words')
  assert.deepEqual(await words.allInnerTexts(), ['Is anybody there?'])
  const id = await agent.say('assistant', 'Yes, I am')
  await reader.page.getByText('Yes, I am', { exact: true }).waitFor()

  // A later revision replaces the earlier one.
  await agent.say('assistant', 'Yes, I am', {
    id, revision: 1, interrupted: true, content_generated: 'Yes, I am here, and I listen.',
  })
  await reader.page.getByText('interrupted', { exact: true }).waitFor()
  assert.match(await reader.page.locator('del').innerText(), /here, and I listen\.$/)
  assert.equal(await words.count(), 2)
  await agent.say('assistant', '', { kind: 'tool_call', parts: [{ type: 'tool_call', id: '1', name: 'look_around', arguments: { far: true } }] })
  await reader.page.locator('.said.aside', { hasText: 'look_around' }).waitFor()
  await reader.axe('a live conversation')
  await visit.axe('a live list')
  await reader.shot('live')

  // A long conversation: a reader at the end stays at the end.
  for (let number = 1; number <= 30; number += 1) await agent.say('user', `And ${number}`)
  const last = reader.page.getByText('And 30', { exact: true })
  await last.waitFor()
  await until('the last words are on the screen', () => last.evaluate((one) => one.getBoundingClientRect().bottom <= innerHeight))

  // Both pages show the end of the conversation.
  await agent.end()
  await until('it is live no more', async () => (await row.getByText('live', { exact: true }).count()) === 0)
  await reader.page.getByText('ended: completed').waitFor()
  await stays(page)
  await stays(reader.page)
})
