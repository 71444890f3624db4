// The page of a conversation shows its messages in the order of the server, whatever part it shows, and whenever a
// message arrives. A live conversation opens at its newest message.

import { randomUUID } from 'node:crypto'

import { Agent, api, assert, browse, until } from './lib.mjs'

const HOUR = 3_600_000

// The moment of the evening of 23 November after so many hours and milliseconds.
const at = (hour, ms = 0) => new Date(Date.UTC(2026, 10, 23) + hour * HOUR + ms).toISOString()

// Adds messages to a live conversation: their texts are `Number N`, one each millisecond.
async function fill(agent, first, last) {
  for (let from = first; from <= last; from += 500) {
    const numbers = Array.from({ length: Math.min(500, last - from + 1) }, (_, index) => from + index)
    const messages = numbers.map((number) => ({ role: 'user', content: `Number ${number}`, created_at: at(18, number) }))
    await api('POST', `/v1/sessions/${agent.session}/messages`, messages)
  }
}

const texts = (page) => page.locator('.said .words').evaluateAll((all) => all.map((one) => one.textContent.trim()))
const numbers = async (page) => (await texts(page)).map((text) => Number(text.replace('Number ', '')))
const range = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => first + index)
const isOnScreen = (locator) => locator.evaluate((one) => {
  const { top, bottom } = one.getBoundingClientRect()
  return top >= 0 && bottom <= innerHeight
})

await browse(async (visit) => {
  const { page } = visit
  const shows = (what, wanted) => until(what, async () => (await texts(page)).join() === wanted.join())

  // A hit in a slow conversation: the page begins a minute before it.
  const slow = await Agent.connect({ user_id: randomUUID() })
  for (const [hour, words] of [[18, 'one'], [20, 'two'], [22, 'three marmots']]) await slow.say('user', words, { created_at: at(hour) })
  await visit.search('marmots')
  await page.locator('.hit a').click()
  await shows('the hit', ['three marmots'])
  await slow.say('assistant', 'four', { created_at: at(24) })
  await shows('the next message follows the hit', ['three marmots', 'four'])

  // A transcript that arrives late is shown before the answer to it.
  await visit.open(`/sessions/${slow.session}`)
  await shows('all of it', ['one', 'two', 'three marmots', 'four'])
  const late = await slow.say('user', 'late', { created_at: at(21) })
  await shows('the late message at its place', ['one', 'two', 'late', 'three marmots', 'four'])
  await slow.say('user', 'first', { created_at: at(17) })
  await shows('a message before all others', ['first', 'one', 'two', 'late', 'three marmots', 'four'])
  await slow.say('user', 'late, revised', { id: late, revision: 1 })
  await shows('a revision stays there', ['first', 'one', 'two', 'late, revised', 'three marmots', 'four'])

  // A message without text.
  await slow.say('assistant', '', { created_at: at(25) })
  await until('it says so', async () => (await page.locator('.words').last().innerText()) === 'no text')
  await slow.say('user', 'with extra fields', { created_at: at(26), mood: 'cheerful' })
  const extra = page.locator('.said', { hasText: 'with extra fields' })
  await extra.locator('summary').click()
  assert.match(await extra.innerText(), /extra[^]*"mood": "cheerful"/)
  await visit.axe('a message without text')
  await visit.shot('no-text')

  // The second page of 1,003 messages.
  const long = await Agent.connect({ user_id: randomUUID() })
  await fill(long, 1, 1_003)
  await visit.open(`/sessions/${long.session}`)
  await until('the newest message is on the screen', () => isOnScreen(page.getByText('Number 1003', { exact: true })))
  assert.deepEqual(await numbers(page), range(4, 1_003), 'a live conversation opens at its newest message')
  await page.getByRole('link', { name: 'Previous messages' }).first().click()
  await page.waitForURL(/before=/)
  assert.deepEqual(await numbers(page), [1, 2, 3])
  await page.getByRole('link', { name: 'Next messages' }).click()
  await page.waitForURL(/after=/)
  assert.deepEqual(await numbers(page), range(4, 1_003))
  await page.getByRole('link', { name: 'From the beginning' }).click()
  await page.waitForURL(/after=start/)
  assert.deepEqual(await numbers(page), range(1, 1_000))
  const first = page.url()
  await page.getByRole('link', { name: 'Next messages' }).click()
  await page.waitForURL((url) => url.href !== first)
  assert.deepEqual(await numbers(page), [1_001, 1_002, 1_003])
  await fill(long, 1_004, 1_004)
  await until('what is new follows', async () => (await numbers(page)).join() === '1001,1002,1003,1004')

  // A late message of another page is not shown on this one.
  await long.say('user', 'Number 2.5', { created_at: at(18, 2.5) })
  await fill(long, 1_005, 1_005)
  await until('what is new follows', async () => (await numbers(page)).join() === '1001,1002,1003,1004,1005')
  await visit.open(first)
  assert.deepEqual((await numbers(page)).slice(0, 4), [1, 2, 2.5, 3])
  await long.say('user', 'Number 3.5', { created_at: at(18, 3.5) })
  await until('it is shown on its own page', async () => (await numbers(page)).slice(0, 6).join() === '1,2,2.5,3,3.5,4')

  // Exactly two full pages.
  const full = await Agent.connect({ user_id: randomUUID() })
  await fill(full, 1, 2_000)
  await visit.open(`/sessions/${full.session}?after=start`)
  await page.getByRole('link', { name: 'Next messages' }).click()
  await page.waitForURL(/after=\d/)
  assert.deepEqual(await numbers(page), range(1_001, 2_000))
  assert.equal(await page.getByRole('link', { name: 'Next messages' }).count(), 0, 'there are no later messages')
  await fill(full, 2_001, 2_001)
  await until('what is new follows', async () => (await numbers(page)).join() === range(1_001, 2_001).join())

  // What was missed while the connection was lost is shown once the page is back.
  await visit.context.setOffline(true)
  await fill(full, 2_002, 2_600)
  await visit.context.setOffline(false)
  await until('nothing is missing', async () => (await numbers(page)).join() === range(1_001, 2_600).join())
  visit.provoked.push(...visit.complaints.filter((complaint) => complaint.includes('ERR_INTERNET_DISCONNECTED')))
  for (const agent of [slow, long, full]) await agent.end()
})
