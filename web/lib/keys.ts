/** Whether a key belongs to what is being typed, or to the browser: then it is no shortcut. */
export function isTyping(event: KeyboardEvent): boolean {
  const target = event.target;
  return (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    event.defaultPrevented ||
    document.querySelector("dialog[open]") !== null ||
    (target instanceof HTMLElement && target.closest("input, select, textarea, [contenteditable]") !== null)
  );
}
