/** Keyboard and keypad, by KeyboardEvent.code, so layout and input method do not matter. */

export const GUARD_MS = 350;

export const KEYMAP = {
  Enter: 'primary', NumpadEnter: 'primary', Escape: 'cancel', ArrowLeft: 'back', NumpadSubtract: 'back', NumpadAdd: 'read', NumpadMultiply: 'more',
  F1: 'help', F2: 'read', F3: 'plate', F4: 'photo', F5: 'vehicle', F6: 'class', F7: 'weigh', F8: 'quote', F9: 'minimum', F10: 'save',
  F11: 'suspend', F12: 'devices',
};
const CAPS = { Escape: 'Esc', ArrowLeft: '←', NumpadEnter: 'Enter', NumpadAdd: '+', NumpadSubtract: '-', NumpadMultiply: '*' };

export const capsOf = (map, action) => [...new Set(Object.keys({ ...map, ...KEYMAP }).filter(code => (map[code] ?? KEYMAP[code]) === action)
  .map(code => CAPS[code] ?? code.replace(/^(Key|Digit)/, '')))];

function typed(code) {
  if (code === 'Backspace') return '退';
  if (code === 'Delete') return '清';
  if (code === 'Slash' || code === 'NumpadDivide') return '/';
  return /^(?:Digit|Numpad|Key)([0-9A-Z])$/.exec(code)?.[1] ?? '';
}

export function listen(page) {
  let isTabbing = false;
  addEventListener('pointerdown', () => { isTabbing = false; }, true);
  addEventListener('keydown', event => {
    const { code, target } = event;
    page.touchedAt = performance.now();
    if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey) {
      if (event.ctrlKey && code === 'KeyR') event.preventDefault();
      return;
    }
    const action = page.settings.map[code] ?? KEYMAP[code];
    const inField = target instanceof HTMLInputElement;
    if (code === 'Tab') isTabbing = true;
    else if (performance.now() - page.shownAt < GUARD_MS && !event.repeat) return event.preventDefault();
    if (event.repeat) return action && !inField ? event.preventDefault() : undefined;
    if (inField && !['primary', 'cancel'].includes(action) && !/^F\d/.test(code)) return;
    if (page.learned(code) || moved(code)) return event.preventDefault();
    if (isTabbing && (code === 'Enter' || code === 'Space') && target.matches('button, a, [type=file]')) return;
    const char = inField ? '' : typed(code);
    const isHandled = char !== '' && (page.typeChar(char) || page.pickOption(Number(char)));
    if (isHandled || action || code === 'Space') event.preventDefault();
    if (!isHandled && action) page.act(action);
  });
}

function moved(code) {
  const { activeElement: chosen } = document;
  if (!/^Arrow/.test(code) || !chosen?.matches('[role=radio]')) return false;
  const next = /Left|Up/.test(code) ? chosen.previousElementSibling : chosen.nextElementSibling;
  next?.focus();
  next?.click();
  return true;
}
