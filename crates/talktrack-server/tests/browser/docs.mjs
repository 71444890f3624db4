// The description of the API for people.

import { assert, browse } from './lib.mjs'

await browse(async (visit) => {
  await visit.open('/docs')
  await visit.shot('docs')
  // With everything unfolded, axe sees all of it.
  await visit.page.evaluate(() => document.querySelectorAll('details').forEach((one) => (one.open = true)))
  assert.ok(await visit.page.getByText('POST').first().isVisible())
  await visit.axe('/docs, unfolded')
})
