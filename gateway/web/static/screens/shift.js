// @ts-check
/** 下班: what the shift took, what is not at the centre yet, what is still open. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { clock, t, tOr, yuan } from '../text.js';
import { shiftName } from './frame.js';
import { alert, button, facts, page, primary } from './parts.js';

/** @typedef {import('../app.js').App} App */

/** @param {App} app */
export function shiftEnd(app) {
  const { rows: statement } = app.data;
  const open = app.s.suspended.length;
  if (!statement) return page(app, t('shift.end'), html`<p class="hint">${app.data.isLoading ? t('loading') : t('shift.none')}</p>`);
  const body = html`${facts([[t('shift'), shiftName(statement.shift)], [t('operator'), statement.operator],
    [t('shift.opened'), clock(statement.opened_at_ms)], [t('shift.count'), t('vehicles', { n: statement.count })],
    [t('shift.sum'), `${yuan(statement.sum_fen)} ${t('yuan')}`]])}<h2>${t('shift.kinds')}</h2>
    ${facts((statement.kinds).map((/** @type {any} */ k) => [`${tOr(`kind.of.${k.kind}`, k.kind)} · ${tOr(`means.${k.means}`, k.means)}`,
    `${t('records', { n: k.count })} ${yuan(k.sum_fen)} ${t('yuan')}`]))}
    ${statement.unsent.count ? html`<p class="note">▲ ${t('shift.unsent', { n: statement.unsent.count, sum: yuan(statement.unsent.sum_fen) })}</p>` : nothing}
    ${open ? alert({ code: '', detail: t('shift.suspended', { n: open }), action: t('shift.suspended.action'), level: 'warn' }) : nothing}`;
  return page(app, t('shift.end'), body, html`${button(t('signOut'), () => app.signOut())}
    ${primary(app, t('shift.close'), () => app.open({ kind: 'confirmClose' }), statement.closed_at_ms != null)}`);
}

/** @param {App} app */
export const confirmClose = app => html`<h1>${t('shift.sure')}</h1><p class="hint">${t('shift.sure.line')}</p>${app.error ? alert(app.error) : nothing}
  <div class="row">${button(t('back'), () => app.close(), { key: 'Esc' })}${primary(app, t('shift.close'), () => app.closeShift())}</div>`;
