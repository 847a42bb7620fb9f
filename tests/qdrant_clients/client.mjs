// The official JavaScript client, unmodified, over REST.
import assert from 'node:assert/strict';
import {createRequire} from 'node:module';

const require = createRequire(process.env.STRONGROOM_CLIENTS + '/');
const {QdrantClient} = require('@qdrant/js-client-rest');

const client = new QdrantClient({url: `http://${process.env.STRONGROOM_REST}`, apiKey: process.env.STRONGROOM_KEY});
const name = 'js';
await client.createCollection(name, {vectors: {size: 4, distance: 'Cosine'}});
assert.equal((await client.collectionExists(name)).exists, true);
assert.equal((await client.getCollection(name)).config.params.vectors.size, 4);
await client.upsert(name, {
  wait: true,
  points: [
    {id: 1, vector: [1, 0, 0, 0], payload: {text: 'a cat', city: 'Berlin'}},
    {id: 2, vector: [0, 1, 0, 0], payload: {text: 'a dog', city: 'London'}},
    {id: '5c56c793-69f3-4fbf-87e6-c4bf54c28c26', vector: [0.6, 0.8, 0, 0], payload: {city: 'Berlin'}},
  ],
});
const filter = {must: [{key: 'city', match: {value: 'Berlin'}}]};
const found = await client.query(name, {query: [1, 0, 0, 0], filter, with_payload: true});
assert.deepEqual(found.points.map((p) => p.id), [1, '5c56c793-69f3-4fbf-87e6-c4bf54c28c26']);
assert.equal(found.points[0].payload.text, 'a cat');
const [nearest] = await client.queryBatch(name, {searches: [{query: [0, 1, 0, 0], limit: 1}]});
assert.equal(nearest.points[0].id, 2);
const page = await client.scroll(name, {limit: 1, filter});
assert.deepEqual(page.points.map((p) => p.id), [1]);
assert.equal((await client.scroll(name, {offset: page.next_page_offset, filter})).points.length, 1);
await client.setPayload(name, {payload: {seen: true}, points: [2], wait: true});
assert.deepEqual((await client.retrieve(name, {ids: [2]}))[0].payload, {text: 'a dog', city: 'London', seen: true});
await client.delete(name, {filter, wait: true});
assert.equal((await client.count(name)).count, 1);
await assert.rejects(client.getCollection('none'), (e) => e.status === 404);
await client.deleteCollection(name);
console.log('ok');
