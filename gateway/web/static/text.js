export let language = 'zh-CN';

export function speak(wanted) {
  language = document.documentElement.lang = wanted;
}

/** English, as the code says it, and 中文: what is said before the gateway, which knows the rest, answers. */
const WORDS = { 'Toll lane': '收费车道', 'Connecting…': '正在连接网关…', 'The gateway is starting, about 20 s': '网关启动中，约需 20 秒' };

const ENGLISH = {};

export const learn = (words, english) => { Object.assign(WORDS, words); Object.assign(ENGLISH, english); };

export const fill = (text, holes) => text.replace(/\{(\w+)\}/g, (_, name) => holes[name] ?? '');

export const t = (words, holes = {}) => fill((language === 'en' ? ENGLISH : WORDS)[words] || words, holes);

/** Amounts are computed from fen, never from fractions. */
export function yuan(fen) {
  const whole = String(Math.floor(fen / 100)).replace(/\B(?=(\d{3})+$)/g, ',');
  return `${whole}.${String(fen % 100).padStart(2, '0')}`;
}

export const tonnes = kg => (kg == null ? '—' : (kg / 1000).toFixed(2));

export const hourNow = now => Math.floor(now / 3_600_000 + 8) % 24;

export function keyed(text, key, most) {
  if (key === '退') return text.slice(0, -1);
  return key === '清' ? '' : (text + key).slice(0, most);
}
