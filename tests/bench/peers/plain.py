"""The thirty-line server that anyone writes in ten minutes: FastAPI, one image a run."""

from typing import Any

from fastapi import FastAPI, Request
from judge import decode, judge, session

app = FastAPI()
model = session()


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/detect")
async def detect(request: Request) -> dict[str, Any]:
    return judge(model, decode(await request.body())[None])[0]
