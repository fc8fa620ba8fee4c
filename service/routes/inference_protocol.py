"""`/v2`: the Open Inference Protocol, for clients of KServe, Triton and Seldon."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import ValidationError

from service import __version__
from service.errors import BodyMalformed, ModelUnknown, ParameterRefused, ShuttingDown
from service.openapi import protocol_errors
from service.pipeline import Lane, Pipeline
from service.protocol import bulk, interface
from service.protocol.metadata import (
    IndexEntry,
    IndexQuery,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    described,
)
