// With authentication, users log in with a token, see what it permits, and log out.

import { assert, browse } from './lib.mjs'

const { API_KEY: key, USER_TOKEN: token, USER_ID: user } = process.env

await browse(async (visit, another) => {
  const { page } = visit
  const logIn = async (page, token) => {
    await page.getByLabel('Token').fill(token)
    await page.getByRole('button', { name: 'Log in' }).click()
  }

  // A visitor without a login gets the login page and afterwards the requested page.
  await visit.open('/?status=ended')
  assert.equal(new URL(page.url()).pathname, '/login')
  assert.equal((await visit.focused()).name, 'token')
  await visit.axe('the login')
  await visit.fits()
  await visit.shot('login')
  await logIn(page, 'tt_this-is-none')
  await page.getByRole('alert').waitFor()
  await visit.complained(401)
  await visit.axe('a login that failed')
  await logIn(page, key)
  await page.waitForURL((url) => url.pathname === '/' && url.search === '?status=ended')
  const all = await page.locator('li.session').count()
  assert.ok(all > 3)
  await visit.axe('the list of somebody who has logged in')

  // No script can read the cookie, and the browser does not send it with forms of other pages.
  const [cookie] = await visit.context.cookies()
  assert.ok(cookie.httpOnly && ['Lax', 'Strict'].includes(cookie.sameSite), JSON.stringify(cookie))
  assert.equal(await page.evaluate(() => document.cookie), '')

  // The cookie is enough for recordings and exports, and for live updates.
  const others = page.locator(`li.session:not(:has(a.user[href$="${user}"]))`)
  const href = await others.first().locator('a.cover').getAttribute('href')
  await visit.open(href)
  assert.equal(await page.evaluate(async () => (await fetch(`/v1${location.pathname}/export`)).status), 200)

  // A user sees only their own conversations.
  const own = await another()
  await own.open('/')
  await logIn(own.page, token)
  await own.page.waitForURL((url) => url.pathname === '/')
  const owners = await own.page.locator('li.session a.user').evaluateAll((all) => all.map((one) => one.getAttribute('href')))
  assert.deepEqual(owners, Array(3).fill(`/?user=${user}`))
  await own.open(href, 404)
  await own.complained(404)

  // After the logout, neither this page nor an earlier one is accessible.
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.waitForURL((url) => url.pathname === '/login')
  assert.deepEqual(await visit.context.cookies(), [])
  await visit.open(href)
  assert.equal(new URL(page.url()).pathname, '/login')
})
