import type { Metadata } from "next";
import { Inbox } from "@/features/approvals/inbox";

export const metadata: Metadata = { title: "Approvals" };

export default function Page() {
  return <Inbox />;
}
