"""One thin file a surface; each makes a router for a pipeline that is handed in."""
