// The list of a week of conversations: pages, filters, search.

import { api, assert, browse, until } from './lib.mjs'

await browse(async (visit) => {
  const { page } = visit
  const rows = page.locator('li.session')
  const covers = () => page.locator('li.session a.cover').evaluateAll((all) => all.map((one) => one.getAttribute('href')))
  const show = () => page.getByRole('button', { name: 'Show' }).click()

  // Newest first, page by page, without duplicates and gaps.
  await visit.open('/')
  assert.equal(await page.title(), 'Conversations · talktrack')
  const { sessions } = await api('GET', '/v1/sessions?limit=500')
  const newest = await covers()
  assert.deepEqual(newest, sessions.slice(0, newest.length).map(({ session_id }) => `/sessions/${session_id}`))
  await visit.axe('the list')
  await visit.fits()
  await visit.shot('conversations')
  await page.getByRole('link', { name: 'Older conversations' }).click()
  await page.waitForURL(/cursor=/)
  assert.deepEqual([...newest, ...(await covers())], sessions.map(({ session_id }) => `/sessions/${session_id}`))

  // Filters by status, by user and by day.
  await visit.open('/')
  await page.getByLabel('Status').selectOption('abandoned')
  await show()
  await page.waitForURL(/status=abandoned/)
  const abandoned = sessions.filter(({ status }) => status === 'abandoned')
  assert.equal(await rows.count(), abandoned.length)
  assert.equal(await rows.getByText('abandoned', { exact: true }).count(), abandoned.length)
  assert.equal(await page.getByLabel('Status').inputValue(), 'abandoned', 'the form says what is shown')
  await page.getByRole('link', { name: 'Clear' }).click()
  await page.waitForURL((url) => url.search === '')

  const { user_id: user } = sessions[0]
  await rows.first().locator('a.user').click()
  await page.waitForURL(/user=/)
  assert.equal(await rows.count(), sessions.filter(({ user_id }) => user_id === user).length)

  await visit.open('/?from=2200-01-01')
  assert.ok(await page.getByText('No conversation matches.').isVisible())
  await visit.axe('nothing is found')
  await visit.open('/?user=%07', 400)
  assert.match(await page.getByRole('alert').innerText(), /user id/)
  await visit.complained(400)
  await visit.axe('a filter that is wrong')

  // Search: hits are highlighted and link to their messages.
  await visit.search('wallet')
  await visit.open('/')
  await page.getByLabel('Search what was said').fill('lost my wall*')
  await page.keyboard.press('Enter')
  await page.waitForURL(/q=/)
  const marks = await page.locator('.hit').first().locator('mark').allInnerTexts()
  assert.deepEqual(new Set(marks), new Set(['lost', 'my', 'wallet']))
  await visit.axe('what is found')
  await visit.fits()
  await visit.shot('search')
  const hit = page.locator('.hit a').first()
  const message = new URL(await hit.getAttribute('href'), page.url()).hash
  await hit.click()
  await page.waitForURL(/\/sessions\//)
  const found = page.locator(message.replace('#', 'id='))
  assert.match(await found.innerText(), /I lost my wallet/)
  assert.ok(await found.evaluate((one) => one.matches(':target')))
  await until('it is on the screen', () => found.evaluate((one) => {
    const { top, bottom } = one.getBoundingClientRect()
    return top >= 0 && bottom <= innerHeight
  }))

  // Scripts without spaces between words, and scripts written from right to left.
  for (const words of ['快递', '露天風呂', 'الأسنان']) await visit.search(words)
})
