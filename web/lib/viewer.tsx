"use client";

import { createContext, type ReactNode, useContext } from "react";
import type { Me, Project } from "@/lib/api";

/** Who looks, at which project: what every page below knows without asking. */
export type Viewer = { me: Me; project: Project | null; projects: readonly Project[] };

const Context = createContext<Viewer | null>(null);

export function ViewerProvider({ value, children }: { value: Viewer; children: ReactNode }) {
  return <Context value={value}>{children}</Context>;
}

export function useViewer(): Viewer {
  const viewer = useContext(Context);
  if (viewer === null) throw new Error("useViewer() needs a ViewerProvider above it.");
  return viewer;
}

/** The time zone in which days begin and end: the project's. */
export function useTimeZone(): string {
  return useViewer().project?.timezone ?? "UTC";
}

/** Whether the viewer has one of the roles in the project that is open. */
export function useRoles(): ReadonlySet<string> {
  const { me, project } = useViewer();
  return new Set(project === null ? [] : (me.roles[project.id] ?? []));
}
