// simple-hl7's server on a free port of 127.0.0.1, which it prints; acknowledges each message with the answer that
// simple-hl7 has made, and prints what it has parsed: one JSON object a line.
"use strict";
const hl7 = require("simple-hl7");

const app = hl7.tcp();

function fields(part) {
  return part.fields.map((_, index) => part.getField(index + 1));
}

app.use((req, res, next) => {
  const segments = req.msg.segments.map((segment) => ({ name: segment.name, fields: fields(segment) }));
  const { type, event, sender } = req;
  console.log(JSON.stringify({ type, event, sender, header: fields(req.msg.header), segments }));
  next();
});
app.use((req, res, next) => res.end());
app.use((error, req, res, next) => {
  throw error;
});

const server = app.start({ port: 0, host: "127.0.0.1" }).server;
server.on("listening", () => console.log(server.address().port));
