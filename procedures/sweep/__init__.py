"""Parts of the fluence sweep: exposure ladder, frames to subtract, layout of the rows, analysis."""
