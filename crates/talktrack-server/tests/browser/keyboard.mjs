// Everything can be reached with the keyboard, and the focus is always visible.

import { assert, browse } from './lib.mjs'

await browse(async (visit) => {
  const { page } = visit
  await visit.open('/')

  // The first element skips the navigation.
  await page.keyboard.press('Tab')
  const first = await visit.focused()
  assert.deepEqual([first.text, first.visible, first.onScreen], ['Skip to the content', true, true])
  await page.keyboard.press('Enter')
  assert.equal((await visit.focused()).name, 'main')

  // The fields of the form, in reading order.
  for (const field of ['q', 'user', 'status', 'from']) await visit.tabTo(field, ({ name }) => name === field, 4)
  await visit.tabTo('Show', ({ text }) => text === 'Show', 12)

  // Enter opens a conversation.
  const { href } = await visit.tabTo('the first conversation', ({ href }) => href?.startsWith('/sessions/'), 3)
  await page.keyboard.press('Enter')
  await page.waitForURL((url) => url.pathname === href)

  // The menu opens and closes, and the focus returns to its button.
  await visit.tabTo('Export', ({ tag, text }) => tag === 'summary' && text === 'Export')
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: 'Text' }).waitFor()
  await visit.tabTo('its first entry', ({ text }) => text === 'Text', 1)
  await page.keyboard.press('Escape')
  await page.getByRole('link', { name: 'Text' }).waitFor({ state: 'hidden' })
  assert.equal((await visit.focused()).text, 'Export')

  // Folded elements unfold.
  await visit.tabTo('something folded', ({ tag }) => tag === 'summary')
  const folded = page.locator('details:has(> summary:focus)')
  await page.keyboard.press('Enter')
  assert.notEqual(await folded.getAttribute('open'), null)

  // Deletion asks first, and the user can leave.
  await visit.open(href)
  await visit.tabTo('Delete…', ({ text }) => text === 'Delete…')
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/delete$/)
  await visit.tabTo('Keep it', ({ text }) => text === 'Keep it')
  await page.keyboard.press('Enter')
  await page.waitForURL((url) => url.pathname === href)

  // Search, and from a hit to the message.
  await visit.search('goodbye')
  const hit = await visit.tabTo('a hit', ({ href }) => href?.includes('#m-'), 30)
  await page.keyboard.press('Enter')
  await page.waitForURL((url) => hit.href.endsWith(url.hash))
})
