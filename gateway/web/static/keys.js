// @ts-check
/**
 * Keyboard and keypad: one listener, actions by KeyboardEvent.code, so layout and input method do not
 * matter. Repeats are nothing, and so is every key in the first moments of a new screen.
 */

export const GUARD_MS = 350;

/** @type {Record<string, string>} */
export const KEYMAP = {
  Enter: 'primary', NumpadEnter: 'primary', Escape: 'cancel', ArrowLeft: 'back', NumpadSubtract: 'back',
  NumpadAdd: 'read', F1: 'help', F2: 'read', F3: 'plate', F4: 'photo', F5: 'vehicle', F6: 'class', F7: 'weigh',
  F8: 'quote', F9: 'minimum', F10: 'save', F11: 'suspend', F12: 'devices', NumpadMultiply: 'more',
};

/** The character a key types, whatever the layout; '' if none. @param {KeyboardEvent} event */
export function typed(event) {
  if (event.code === 'Backspace') return '退';
  if (event.code === 'Delete') return '清';
  if (event.code === 'Slash' || event.code === 'NumpadDivide') return '/';
  return /^(?:Digit|Numpad|Key)([0-9A-Z])$/.exec(event.code)?.[1] ?? '';
}

/** @param {{shownAt: () => number, map: () => Record<string, string>, learn: (code: string) => boolean, type: (char: string) => boolean, act: (action: string) => void,
 *   choose: (n: number) => boolean}} page */
export function listen(page) {
  let isTabbing = false;
  addEventListener('pointerdown', () => { isTabbing = false; }, true);
  addEventListener('keydown', event => {
    if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return swallowReload(event);
    const action = page.map()[event.code] ?? KEYMAP[event.code];
    const inField = event.target instanceof HTMLInputElement;
    if (event.code === 'Tab') isTabbing = true;
    if (event.repeat) return action && !inField ? event.preventDefault() : undefined;
    if (performance.now() - page.shownAt() < GUARD_MS && event.code !== 'Tab') return event.preventDefault();
    if (inField && action !== 'primary' && action !== 'cancel' && !/^F\d/.test(event.code)) return undefined;
    if (page.learn(event.code)) return event.preventDefault();
    if (moved(event)) return undefined;
    if (isTabbing && (event.code === 'Enter' || event.code === 'Space') && isButton()) return undefined;
    const char = typed(event);
    const isHandled = char !== '' && (page.type(char) || (/\d/.test(char) && page.choose(Number(char))));
    if (isHandled || action || event.code === 'Space') event.preventDefault();
    return !isHandled && action ? page.act(action) : undefined;
  });
}

/** @param {KeyboardEvent} event F5 and Ctrl+R would throw the screen away */
function swallowReload(event) {
  if (event.ctrlKey && event.code === 'KeyR') event.preventDefault();
}

const isButton = () => document.activeElement instanceof HTMLButtonElement;

/** Arrows walk inside a group of choices. @param {KeyboardEvent} event */
function moved(event) {
  const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.code];
  const group = document.activeElement?.closest('[role=radiogroup]');
  if (!step || !group) return false;
  const choices = [...group.querySelectorAll('button')];
  const next = choices[choices.indexOf(/** @type {any} */ (document.activeElement)) + step];
  next?.focus();
  next?.click();
  event.preventDefault();
  return true;
}
