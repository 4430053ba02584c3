"""Calls Ask and Converse with stubs made from the .proto files, as any team outside Rust would."""

import pathlib
import sys
import tempfile

import grpc
from grpc_tools import protoc

url, protos = sys.argv[1:]
out = tempfile.mkdtemp()
files = sorted(str(path) for path in pathlib.Path(protos).glob("firstline/v1/*.proto"))
include = pathlib.Path(protoc.__file__).parent / "_proto"
flags = [f"-I{protos}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}"]
assert protoc.main(["protoc", *flags, *files]) == 0
sys.path.insert(0, out)

from firstline.v1 import assistant_pb2, assistant_pb2_grpc, types_pb2  # noqa: E402

with grpc.insecure_channel(url.removeprefix("http://")) as channel:
    assistant = assistant_pb2_grpc.AssistantServiceStub(channel)
    message = assistant_pb2.Message(text="What is the contactless limit?", customer_key="anna")
    turn = assistant.Ask(assistant_pb2.AskRequest(message=message), timeout=10).turn
    assert turn.outcome == types_pb2.OUTCOME_ANSWERED, turn
    assert turn.citations, turn

    message = assistant_pb2.Message(text="Agent!", conversation_id=turn.conversation_id, customer_key="anna")
    events = [r.WhichOneof("event") for r in assistant.Converse(assistant_pb2.ConverseRequest(message=message), timeout=10)]
    assert events == ["accepted", "handoff", "final"], events

    try:
        assistant.Ask(assistant_pb2.AskRequest(message=assistant_pb2.Message(text="")), timeout=10)
        raise AssertionError("an empty text was accepted")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
print("ok")
