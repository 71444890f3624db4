// The page of the server's health while the database is unreachable.

import { assert, browse, until } from './lib.mjs'

await browse(async (visit) => {
  const { page } = visit
  const state = page.locator('#state')
  await visit.open('/health')
  await until('it is seen by itself that nothing works', async () => /Nothing reaches the database/.test(await state.innerText()))
  assert.match(await state.innerText(), /the database cannot be reached/)
  assert.match(await page.locator('#schema').innerText(), /The schema cannot be compared now/)
  await visit.axe('health, while the database is away')
  await visit.shot('health-parked')
})
