// @ts-check
/** Pairing a handheld: the code is shown here, both sides compare six digits, a master confirms. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { stamp, t, tOr } from '../text.js';
import { button, page, primary } from './parts.js';

/** @typedef {import('../app.js').App} App */

/** @param {App} app */
export function pairing(app) {
  const rows = (app.data.rows?.pairings ?? []).filter((/** @type {any} */ device) => device.state === 'paired');
  const { offer } = app.data;
  const body = html`${offer ? code(app, offer) : html`<p class="hint">${t('pairing.hint')}</p>`}
    <h2>${t('pairing.list')}</h2>${rows.length ? html`<ul class="rows">${rows.map((/** @type {any} */ device) => html`<li><b>${device.name || device.id}</b>
    <span>${tOr(`pairing.${device.state}`, device.state ?? '')} ${device.last_seen_ms ? t('pairing.seen', { at: stamp(device.last_seen_ms) }) : ''}</span>
    ${button(t('pairing.revoke'), () => app.revoke(device.id), { off: app.isBusy })}</li>`)}</ul>` : html`<p class="hint">${t('empty.pairing')}</p>`}`;
  const isWaiting = offer && offer.digits && app.now() < offer.expires_at_ms;
  return page(app, t('pairing'), body, html`${isWaiting ? button(t('pairing.stop'), () => app.revoke(offer.id)) : nothing}
    ${isWaiting && offer.state !== 'open' ? primary(app, t('pairing.same'), () => app.confirmPairing(offer.id)) : primary(app, t('pairing.start'), () => app.startPairing())}`);
}

/** @param {App} app @param {Record<string, any>} offer */
function code(app, offer) {
  const left = Math.max(0, Math.round((offer.expires_at_ms - app.now()) / 1000));
  if (!left) return html`<p class="hint warn">▲ ${t('pairing.late')}</p>`;
  return html`<div class="pairing">${offer.qr_svg ? html`<img alt=${t('pairing.qr')} src=${`data:image/svg+xml;charset=utf-8,${encodeURIComponent(offer.qr_svg)}`}>` : nothing}
    <div><p class="hint">${t('pairing.scan')}</p><p class="digits6">${offer.digits ?? t('pairing.wait')}</p>
    <p class="hint">${t('pairing.compare')}</p><p class="hint">${t('pairing.left', { n: left })}</p></div></div>`;
}
