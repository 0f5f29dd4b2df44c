"""What an operator says: settings of the service, and of the collections that it serves."""

from __future__ import annotations

from soda_service.config.collections import (
    CollectionConfig,
    CollectionsFile,
    DetailConfig,
    FieldFilter,
    LinkColumn,
    LinkRule,
    PlaneRule,
    SettableColumn,
    StoreConfig,
    load_collections,
)
from soda_service.config.resources import resource_path
from soda_service.config.settings import (
    CONFIG_VARIABLE,
    ENVIRONMENT_PREFIX,
    Settings,
    load_settings,
    put_into_environment,
    settings_environment,
)
from soda_service.config.tomlfile import without_secrets

__all__ = [
    "CONFIG_VARIABLE",
    "ENVIRONMENT_PREFIX",
    "CollectionConfig",
    "CollectionsFile",
    "DetailConfig",
    "FieldFilter",
    "LinkColumn",
    "LinkRule",
    "PlaneRule",
    "SettableColumn",
    "Settings",
    "StoreConfig",
    "load_collections",
    "load_settings",
    "put_into_environment",
    "resource_path",
    "settings_environment",
    "without_secrets",
]
