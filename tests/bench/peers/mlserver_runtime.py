"""MLServer: a custom runtime with adaptive batching. Takes a PNG as BYTES of the v2 JSON."""

import numpy as np
from judge import decode, judge, session
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Judge(MLModel):
    async def load(self) -> bool:
        self.model = session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        files = Base64Codec.decode_input(payload.inputs[0])
        answers = judge(self.model, np.stack([decode(png) for png in files]))
        outputs = [
            NumpyCodec.encode_output(name, np.array([[answer[name]] for answer in answers]))
            for name in ("label", "probability", "agree")
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
