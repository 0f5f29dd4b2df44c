"""The sky and the grid: shapes, their spelling, and the pixel box around them. numpy only."""
