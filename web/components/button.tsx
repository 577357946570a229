import type { ComponentProps } from "react";

type Look = "main" | "plain" | "bad" | "quiet";

/** A button; while it is `busy` it says so and does nothing, and keeps the focus. */
export function Button({
  look = "plain",
  busy = false,
  type = "button",
  onClick,
  ...rest
}: ComponentProps<"button"> & { look?: Look; busy?: boolean }) {
  return (
    <button
      {...rest}
      type={type}
      className="button"
      data-look={look}
      aria-disabled={busy || undefined}
      aria-busy={busy || undefined}
      onClick={busy ? (event) => event.preventDefault() : onClick}
    />
  );
}
