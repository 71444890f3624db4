// The page of statistics over a week of conversations.

import { api, assert, browse, until } from './lib.mjs'

await browse(async (visit) => {
  const { page } = visit
  const { sessions } = await api('GET', '/v1/sessions?limit=500')
  const card = (name) => page.locator('.cards .card', { has: page.getByText(name, { exact: true }) }).locator('dd').innerText()

  // The figures lag behind the messages.
  await until('all conversations are counted', async () => {
    await visit.open('/stats?range=30d')
    return (await card('Conversations')) === `${sessions.length}`
  })
  const interruptions = await card('Interruptions')
  assert.ok(Number(interruptions) > 5, interruptions)

  // Each chart has an accessible name, and its values as a table.
  const charts = page.locator('figure.chart')
  assert.ok((await charts.count()) >= 4)
  for (const chart of await charts.all()) {
    const label = await chart.getByRole('img').getAttribute('aria-label')
    assert.ok(label.length > 10, label)
    const { width, height } = await chart.locator('svg').boundingBox()
    assert.ok(width > 200 && height > 80, `${width} x ${height}`)
  }
  await charts.first().getByText('Values').click()
  const values = await charts.first().locator('tbody td').allInnerTexts()
  assert.equal(values.map(Number).reduce((sum, value) => sum + value), sessions.length)
  await visit.axe('the numbers')
  await visit.fits()
  await visit.shot('numbers')

  // No label overlaps another one or is cut off.
  for (const range of ['24h', '7d', '30d', '90d']) {
    await visit.open(`/stats?range=${range}`)
    const overlaps = await page.locator('figure.chart svg').evaluateAll((all) => all.flatMap((svg) => {
      const frame = svg.closest('figure').getBoundingClientRect()
      const boxes = [...svg.querySelectorAll('text[text-anchor="middle"]')].map((text) => [text.textContent, text.getBoundingClientRect()])
      const beyond = boxes.filter(([, box]) => box.right > frame.right + 1 || box.left < frame.left - 1)
      const over = boxes.filter(([, box], place) => place > 0 && box.left < boxes[place - 1][1].right)
      return [...beyond, ...over].map(([text]) => text)
    }))
    assert.deepEqual(overlaps, [], `labels over ${range}`)
  }

  // Another range, another measure, one user.
  await page.getByRole('button', { name: '30 days' }).click()
  await page.waitForURL(/range=30d/)
  await page.getByLabel('Measure').selectOption('llm_ttft_ms')
  await page.getByLabel('User').fill(sessions[0].user_id)
  await page.getByRole('button', { name: 'Show' }).click()
  await page.waitForURL(/measure=llm_ttft_ms/)
  const own = sessions.filter(({ user_id }) => user_id === sessions[0].user_id)
  assert.equal(await card('Conversations'), `${own.length}`)
  assert.ok(await page.getByRole('heading', { name: /llm_ttft_ms/ }).isVisible())
  assert.equal(await page.getByLabel('Measure').inputValue(), 'llm_ttft_ms', 'the form says what is shown')
})
