import type { Metadata } from "next";
import { Board } from "@/features/packages/board";

export const metadata: Metadata = { title: "Board" };

export default function Page() {
  return <Board />;
}
