import { NotFound } from "@/features/shell/not-found";

export default function Page() {
  return <NotFound />;
}
