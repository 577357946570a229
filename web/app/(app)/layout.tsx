import { cookies } from "next/headers";
import type { ReactNode } from "react";
import { Shell } from "@/features/shell/shell";
import type { Me, Schemas } from "@/lib/api";
import { COOKIES } from "@/lib/cookies";
import { load } from "@/lib/server";
import { ViewerProvider } from "@/lib/viewer";

export default async function Frame({ children }: { children: ReactNode }) {
  const [me, page] = await Promise.all([
    load<Me>("/auth/me"),
    load<Schemas["ProjectPage"]>("/projects?limit=200"),
  ]);
  const chosen = (await cookies()).get(COOKIES.project)?.value;
  const project = page.items.find((one) => one.id === chosen) ?? page.items[0] ?? null;
  return (
    <ViewerProvider value={{ me, project, projects: page.items }}>
      <Shell>{children}</Shell>
    </ViewerProvider>
  );
}
