"""The floor of a command's HTTP part: a POST that checks its token like ours, and does nothing else."""

import json
import sys
from pathlib import Path
from typing import Annotated

import jwt
import uvicorn
from fastapi import FastAPI, Header, HTTPException


def app(keys: Path, issuer: str, audience: str) -> FastAPI:
    made = FastAPI()
    key = jwt.PyJWK(json.loads(keys.read_text(encoding="utf-8"))["keys"][0])

    @made.post("/nothing")
    async def nothing(authorization: Annotated[str, Header()], body: dict[str, object]) -> dict[str, object]:
        token = authorization.removeprefix("Bearer ")
        try:
            jwt.decode(token, key, algorithms=["ES256"], audience=audience, issuer=issuer)
        except jwt.InvalidTokenError as error:
            raise HTTPException(401) from error
        return body

    return made


if __name__ == "__main__":
    port, keys, issuer, audience = sys.argv[1:5]
    uvicorn.run(app(Path(keys), issuer, audience), host="127.0.0.1", port=int(port), log_level="warning")
