"""Image cutouts for astronomy: an identifier and a sky shape become a box of pixels.

The rooms, from the street down to the cellar: `cli`, `app` and `demo`, `web`, `discovery`,
`cutout`, then `catalog`, `pixels`, `render` and `votable`, then `fits` and `storage`,
`geometry`, and at the bottom `config` and `errors`. Imports point down that list, never up.
"""

__version__ = "0.1.0"
