import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import grpcWeb from "grpc-web";
import { Echo, EchoRequestSchema, EchoResponseSchema } from "./echo_pb.js";

// Both answer {code, message, messages}: what a page sees of a call.
async function connect(url, method, text, headers, cookies) {
  const fetching = cookies ? (input, init) => fetch(input, { ...init, credentials: "include" }) : undefined;
  const client = createClient(Echo, createGrpcWebTransport({ baseUrl: url, useBinaryFormat: true, fetch: fetching }));
  const messages = [];
  try {
    if (method === "unaryEcho") messages.push((await client.unaryEcho({ message: text }, { headers })).message);
    else for await (const m of client[method]({ message: text }, { headers })) messages.push(m.message);
    return { code: 0, message: "", messages };
  } catch (e) {
    const error = ConnectError.from(e);
    return { code: error.code, message: error.rawMessage, messages };
  }
}

function text(url, method, text, headers, cookies) {
  const stream = method !== "unaryEcho";
  const client = new grpcWeb.GrpcWebClientBase({ format: "text", withCredentials: cookies });
  const descriptor = new grpcWeb.MethodDescriptor(
    "/grpc.examples.echo.Echo/" + method[0].toUpperCase() + method.slice(1), stream ? grpcWeb.MethodType.SERVER_STREAMING : grpcWeb.MethodType.UNARY,
    Object, Object, (m) => toBinary(EchoRequestSchema, create(EchoRequestSchema, m)), (b) => fromBinary(EchoResponseSchema, b));
  const messages = [];
  return new Promise((done) => {
    const failed = (e) => done({ code: e.code, message: e.message, messages });
    if (!stream) {
      client.rpcCall(url + descriptor.getName(), { message: text }, headers, descriptor, (e, m) => (e ? failed(e) : done({ code: 0, message: "", messages: [m.message] })));
      return;
    }
    let code = 0, message = "";
    const call = client.serverStreaming(url + descriptor.getName(), { message: text }, headers, descriptor);
    call.on("data", (m) => messages.push(m.message));
    call.on("status", (s) => { code = s.code; message = s.details; });
    call.on("error", failed);
    call.on("end", () => done({ code, message, messages }));
  });
}

globalThis.clients = { connect, text };
