import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it, vi } from "vitest";
import { Palette } from "@/features/shell/palette";
import { show } from "@/tests/world";

const push = vi.fn();
vi.mock("next/navigation", () => ({ useRouter: () => ({ push }) }));
vi.mock("@/features/shell/shell", () => ({ PAGES: [{ href: "/approvals", name: "approvals" }] }));
Element.prototype.scrollIntoView = () => {};
globalThis.ResizeObserver = class {
  observe() {}
  unobserve() {}
  disconnect() {}
};

it("takes what is typed at once, and Enter goes there", async () => {
  const onClose = vi.fn();
  show(<Palette onClose={onClose} onLook={() => {}} />);
  expect(document.activeElement).toBe(screen.getByPlaceholderText(/Type a page/));
  await userEvent.keyboard("a{Enter}");
  expect(push).toHaveBeenCalledWith("/approvals");
  expect(onClose).toHaveBeenCalledOnce();
});
