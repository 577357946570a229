"""Running PMIS: embedded servers, the supervisor of `pmis up`, migrations, the doctor."""
