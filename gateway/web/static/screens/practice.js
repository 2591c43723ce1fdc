// @ts-check
/** Practice with twins: put a vehicle on the lane. Only where the gateway says that nothing is real. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { t } from '../text.js';
import { button, list } from './parts.js';

/** @typedef {import('../app.js').App} App */

const PRESETS = ['car', 'truck', 'minimum_fare', 'new_energy', 'zero_fare', 'no_entry', 'listed', 'mismatch', 'low_balance'];

/** @param {App} app */
export function practice(app) {
  if (!app.s.is_training || app.practised?.gone) return nothing;
  const names = list('practice.presets');
  return html`<section class="practice" aria-label=${t('training')}><b>${t('practice.put')}</b><div class="choices">${
    PRESETS.map((preset, n) => button(names[n], () => app.practise(preset), { cls: 'option', off: app.isBusy }))}</div></section>`;
}

/** What stands there now, and the Hex a driver's ticket would tell. @param {App} app */
export function practised(app) {
  const put = app.practised;
  if (!app.s?.is_training || !put?.plate) return nothing;
  return html`<p class="hint">${t('practice.there', { plate: put.plate, station: put.entry_station ?? t('none'), hex: put.entry_hex ?? t('none') })}</p>`;
}
