"""PMIS: work is cut into packages, every change is proposed, judged, agreed, applied once and logged."""
