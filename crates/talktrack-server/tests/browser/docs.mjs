// The page with the API description.

import { assert, browse } from './lib.mjs'

await browse(async (visit) => {
  await visit.open('/docs')
  await visit.shot('docs')
  // axe checks only what is visible, so everything is unfolded.
  await visit.page.evaluate(() => document.querySelectorAll('details').forEach((one) => (one.open = true)))
  assert.ok(await visit.page.getByText('POST').first().isVisible())
  await visit.axe('/docs, unfolded')
})
