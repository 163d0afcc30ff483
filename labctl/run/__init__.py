"""The engine: plan, preflight, point loop, guard, endpoint."""
