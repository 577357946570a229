import type { ReactNode } from "react";
import { Shell } from "@/features/shell/shell";
import type { Me } from "@/lib/api";
import { openProject } from "@/lib/project";
import { load } from "@/lib/server";
import { ViewerProvider } from "@/lib/viewer";

export default async function Frame({ children }: { children: ReactNode }) {
  const [me, { project, projects }] = await Promise.all([load<Me>("/auth/me"), openProject()]);
  return (
    <ViewerProvider value={{ me, project, projects }}>
      <Shell>{children}</Shell>
    </ViewerProvider>
  );
}
