import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it, vi } from "vitest";
import { type Proof, ProofForm } from "@/features/session/proof-form";
import { Problem } from "@/lib/problem";
import { show } from "@/tests/world";

it("asks for the second factor once it is needed, and keeps the password", async () => {
  const sent: Proof[] = [];
  const prove = vi.fn(async (proof: Proof) => {
    sent.push(proof);
    if (proof.code === undefined) throw new Problem("second_factor_needed", "A code.", { status: 401 });
    if (proof.code !== "123456") throw new Problem("wrong_code", "That is not the code.", { status: 401 });
  });
  show(<ProofForm submit="Confirm" prove={prove} />);
  await userEvent.type(screen.getByLabelText("Password"), "long enough");
  await userEvent.click(screen.getByRole("button", { name: "Confirm" }));
  const code = await screen.findByLabelText(/authenticator/);
  expect(screen.queryByRole("alert")).toBeNull();
  await userEvent.type(code, "000000");
  await userEvent.click(screen.getByRole("button", { name: "Confirm" }));
  expect(await screen.findByText("That is not the code.")).toBeTruthy();
  await userEvent.clear(code);
  await userEvent.type(code, "123456");
  await userEvent.click(screen.getByRole("button", { name: "Confirm" }));
  await waitFor(() => expect(screen.queryByRole("alert")).toBeNull());
  expect(sent).toEqual([
    { password: "long enough" },
    { password: "long enough", code: "000000" },
    { password: "long enough", code: "123456" },
  ]);
});
