/** What lies over the work: values like screens, one at a time. */
import { DEEDS } from './deeds.js';
import { capsOf, KEYMAP } from './keys.js';
import { blocks, button, choices, hint, html, nothing, NUMBERS, options, pad } from './parts.js';
import { t } from './text.js';

export const DIALOGS = {
  pick: app => ({ title: app.dialog.title, body: options(app.dialog.pairs, value => { const { then } = app.dialog; app.close(); then(value); }, app.isBusy) }),

  sure: app => ({ title: t('Sure?'), body: hint(app.dialog.text), primary: [t('OK'), app.dialog.then] }),

  weigh: app => ({
    title: t('weigh'), bar: [button(t('Use scale'), () => { app.close(); app.set({ kilos: '', weightReason: '' }); })], primary: [t('OK'), () => app.close(), !Number(app.draft.kilos) || !app.draft.weightReason],
    body: html`<div class="two"><div><p class="figure">${app.draft.kilos || 0} kg</p>${pad(NUMBERS, char => app.keyDigits('kilos', char), 'num')}</div>${choices(t('Reason'), app.reasons('weigh'), app.draft.weightReason, weightReason => app.set({ weightReason }))}</div>`,
  }),

  photo: app => ({ title: t('photo'), bar: ['photo'], body: picture(app, 'frame') }),

  aside: app => ({ title: t('This vehicle'), body: blocks(app, app.s.side), bar: ['takeOver'], primary: [t('OK'), () => app.close()] }),

  help: app => ({
    title: t('help'), primary: [t('OK'), () => app.close()],
    body: html`<dl>${[...new Set(Object.values({ ...KEYMAP, ...app.settings.map }))].map(name => html`<dt><kbd>${capsOf(app.settings.map, name).join(' ')}</kbd></dt><dd class=${app.s && (!DEEDS[name][0] || app.may(name)) ? '' : 'off'}>${t(name)}</dd>`)}
      <dt><kbd>62</kbd> <kbd>/ 11</kbd></dt><dd>${t('Province code; / row and column')}</dd></dl>`,
  }),
};

export const picture = (app, look) => html`<span class=${look}><img alt=${t('photo')} src=${app.photoUrl()} @error=${() => app.photoFailed(true)} @load=${() => app.photoFailed(false)}>${app.noPhoto ? html`<span>${t('No picture')}</span>` : nothing}</span>`;
