"use client";

import { useTranslations } from "use-intl";
import { ApiTokens } from "@/features/profile/api-tokens";
import { Password } from "@/features/profile/password";
import { Sessions } from "@/features/profile/sessions";
import { useRoleWord } from "@/features/proposal/route";
import { useViewer } from "@/lib/viewer";

/** What belongs to the person alone: where they are signed in, their password, their programs. */
export function Profile() {
  const t = useTranslations("profile");
  const role = useRoleWord();
  const { me, projects } = useViewer();
  return (
    <>
      <div>
        <h1>{me.name}</h1>
        <ul className="muted">
          {projects.map((project) => (
            <li key={project.id}>
              {project.name}: {(me.roles[project.id] ?? []).map(role).join(", ") || t("noRole")}
            </li>
          ))}
        </ul>
      </div>
      <div className="cards">
        <Sessions />
        <ApiTokens />
        <Password />
      </div>
    </>
  );
}
