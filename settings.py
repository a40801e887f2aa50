"""The base of every typed configuration: unknown keys are errors, values are checked, nothing changes after reading."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A part of the configuration. Each room owns its own subclasses; ``pipeline`` joins them into one tree."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
