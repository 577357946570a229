import type { Metadata } from "next";
import { Explorer } from "@/features/audit/explorer";

export const metadata: Metadata = { title: "Audit" };

export default function Page() {
  return <Explorer />;
}
