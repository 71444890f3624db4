// The list of conversations: the reader's days, and the way to a conversation, to the next one, and back.

import { randomUUID } from 'node:crypto'

import { api, assert, browse } from './lib.mjs'

const user = randomUUID()

async function start(started_at) {
  const { session_id } = await api('POST', '/v1/sessions', { user_id: user, started_at })
  return session_id
}

const sessions = {}
for (const time of ['22T10:30', '22T11:30', '23T00:30', '23T10:59', '23T11:01']) sessions[time] = await start(`2026-11-${time}:00Z`)

await browse(async (visit, another) => {
  const rows = (page) => page.locator('li.session').evaluateAll((all) => all.map((one) => one.id.slice(2)))

  // In Auckland, 23 November lasts from 11:00 UTC of the day before until 11:00 UTC; in Berlin, from 23:00 to 23:00.
  const of = { 'Pacific/Auckland': ['23T10:59', '23T00:30', '22T11:30'], 'Europe/Berlin': ['23T11:01', '23T10:59', '23T00:30'] }
  for (const [timezoneId, times] of Object.entries(of)) {
    const reader = await another({ timezoneId })
    const { page } = reader
    await reader.open('/')
    await page.getByLabel('From').fill('2026-11-23')
    await page.getByLabel('To').fill('2026-11-23')
    await page.getByRole('button', { name: 'Show' }).click()
    await page.waitForURL(/from=/)
    const wanted = times.map((time) => sessions[time])
    assert.deepEqual(await rows(page), wanted, timezoneId)
    assert.equal(await page.getByLabel('From').inputValue(), '2026-11-23', 'the form says what is shown')

    // From one conversation of the list to the next, and back to the list.
    const list = new URL(page.url())
    await page.locator('a.cover').first().click()
    await page.waitForURL(new RegExp(wanted[0]))
    assert.equal(await page.getByRole('link', { name: 'Previous conversation' }).count(), 0)
    for (const session of wanted.slice(1)) {
      await page.getByRole('link', { name: 'Next conversation' }).click()
      await page.waitForURL(new RegExp(session))
    }
    assert.equal(await page.getByRole('link', { name: 'Next conversation' }).count(), 0)
    await page.getByRole('link', { name: 'Previous conversation' }).click()
    await page.waitForURL(new RegExp(wanted.at(-2)))
    if (timezoneId === 'Europe/Berlin') {
      await reader.axe('a conversation of a filtered list')
      await reader.shot('next-conversation')
    }
    await page.getByRole('navigation', { name: 'The list of conversations' }).getByRole('link', { name: 'Conversations' }).click()
    await page.waitForURL((url) => url.pathname === '/')
    assert.deepEqual(await rows(page), wanted, 'the way back keeps the filters')
    assert.equal(new URL(page.url()).searchParams.get('from_at'), list.searchParams.get('from_at'))
  }

  // The last day before the first.
  const { page } = visit
  await visit.open('/')
  await page.getByLabel('From').fill('2026-11-23')
  await page.getByLabel('To').fill('2026-11-22')
  await page.getByRole('button', { name: 'Show' }).click()
  await page.waitForURL(/from=/)
  assert.match(await page.getByRole('alert').innerText(), /To: 2026-11-22 is before 2026-11-23/)
  await visit.complained(400)
  await visit.axe('days in the wrong order')

  // A mistyped address.
  await visit.open('/sesions', 404)
  assert.ok(await page.getByRole('heading', { name: 'There is nothing here' }).isVisible())
  await visit.complained(404)
  await visit.axe('a mistyped address')
  await page.getByRole('link', { name: 'Back to the conversations' }).click()
  await page.waitForURL((url) => url.pathname === '/')
})
