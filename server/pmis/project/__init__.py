"""Projects: what holds packages and people, with a time zone, a currency and a budget."""
