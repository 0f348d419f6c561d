// Sends the messages of standard input (a JSON list of texts) with simple-hl7's client, one after the other on one
// connection, as simple-hl7 has parsed them and writes them again. Prints what it reads in each acknowledgement.
"use strict";
const hl7 = require("simple-hl7");

const [host, port] = process.argv.slice(2);
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
const client = hl7.Server.createTcpClient({ host, port: Number(port), keepalive: true });
const parser = new hl7.Parser();

function send(index) {
  if (index === texts.length) {
    client.close();
    return;
  }
  client.send(parser.parse(texts[index]), (error, ack) => {
    if (error) throw error;
    const msa = ack.getSegment("MSA");
    console.log(JSON.stringify({ code: msa.getField(1), id: msa.getField(2), type: ack.header.getComponent(7, 1) }));
    setImmediate(send, index + 1); // the client is ready for the next one after this callback
  });
}

send(0);
