// @ts-check
/** Words and numbers as people read them. Every word comes from the catalogue. */
import { WORDS } from './zh-CN.js';

/** @param {string} key @param {Record<string, unknown>} [holes] @returns {string} */
export const t = (key, holes) => {
  const text = /** @type {Record<string, string>} */ (WORDS)[key] ?? key;
  return holes ? text.replace(/\{(\w+)\}/g, (_, name) => String(holes[name] ?? '')) : text;
};

/** A word if the catalogue has one. @param {string} key @param {string} other */
export const tOr = (key, other) => (key in WORDS ? t(key) : other);

/** Amounts are computed from fen, never from fractions. @param {number | null | undefined} fen */
export function yuan(fen) {
  if (fen == null) return t('none');
  const whole = Math.floor(Math.abs(fen) / 100).toString().replace(/\B(?=(\d{3})+$)/g, ',');
  return `${fen < 0 ? '-' : ''}${whole}.${String(Math.abs(fen) % 100).padStart(2, '0')}`;
}

/** @param {number | null | undefined} kg */
export const tonnes = kg => (kg == null ? t('none') : (kg / 1000).toFixed(2));

const ZONE = 'Asia/Shanghai';
const CLOCK = new Intl.DateTimeFormat('zh-CN', { timeZone: ZONE, hour: '2-digit', minute: '2-digit', hour12: false });
const STAMP = new Intl.DateTimeFormat('zh-CN', {
  timeZone: ZONE, month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false,
});

/** @param {number | string | null | undefined} at epoch ms or ISO 8601 */
export const clock = at => (at == null || at === '' ? t('none') : CLOCK.format(new Date(at)));

/** @param {number | string | null | undefined} at epoch ms or ISO 8601 */
export const stamp = at => (at == null || at === '' ? t('none') : STAMP.format(new Date(at)));

const DAY = new Intl.DateTimeFormat('sv-SE', { timeZone: ZONE, dateStyle: 'short', timeStyle: 'short' });

/** With its year. @param {number | null | undefined} at epoch ms */
export const day = at => (at == null ? t('none') : DAY.format(at));

/** Grey below a day, amber below three, red above. @param {number} seconds */
export const freshness = seconds => (seconds < 86400 ? '' : seconds < 259200 ? 'warn' : 'bad');

/** @param {number | null | undefined} seconds */
export function age(seconds) {
  if (seconds == null) return t('none');
  if (seconds < 90) return t('age.seconds', { n: Math.round(seconds) });
  if (seconds < 5400) return t('age.minutes', { n: Math.round(seconds / 60) });
  if (seconds < 172800) return t('age.hours', { n: Math.round(seconds / 3600) });
  return t('age.days', { n: Math.round(seconds / 86400) });
}
