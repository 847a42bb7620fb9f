//! Every bound in one place: sizes in bytes, counts in items, times with their unit in the name.

/// Longest id of a tenant or an agent, in bytes.
pub const TENANT_ID_BYTES: usize = 64;
/// Longest collection or vector name, in bytes.
pub const NAME_BYTES: usize = 255;
/// Longest textual record id or memory key, in bytes.
pub const RECORD_ID_BYTES: usize = 512;
/// Longest namespace label, in bytes.
pub const NAMESPACE_LABEL_BYTES: usize = 256;
/// Most labels in a namespace.
pub const NAMESPACE_DEPTH: usize = 8;
/// Most dimensions of a vector (Qdrant's own bound).
pub const VECTOR_DIMENSIONS: usize = 65_536;
/// Most values that are there in a sparse vector.
pub const SPARSE_VALUES: usize = 65_536;
/// Most named vectors in a collection, dense and sparse.
pub const NAMED_VECTORS: usize = 16;
/// Largest text and metadata of one chunk, or value of one memory, in bytes, as JSON.
pub const PAYLOAD_BYTES: usize = 16 << 20;
/// Most records in one write.
pub const WRITE_RECORDS: usize = 4096;
/// Most bytes in one journal entry; a larger write is refused and should be split.
pub const WRITE_BYTES: usize = 64 << 20;
/// Longest text of a query, in bytes.
pub const QUERY_TEXT_BYTES: usize = 64 << 10;
/// Most queries in one, prefetched ones included.
pub const QUERIES: usize = 64;
/// Most examples of a recommendation.
pub const QUERY_EXAMPLES: usize = 1024;
/// Most results of one search.
pub const SEARCH_RESULTS: usize = 10_000;
/// Largest filter, in bytes of JSON.
pub const FILTER_BYTES: usize = 4 << 20;
/// Most levels of filters within filters.
pub const FILTER_DEPTH: usize = 24;
/// Most conditions of a filter, on all levels.
pub const FILTER_CONDITIONS: usize = 4096;
/// Most values and ids that a filter names.
pub const FILTER_VALUES: usize = 65_536;
/// Longest path to a field, in bytes.
pub const FILTER_KEY_BYTES: usize = 1024;
/// Most steps of a path to a field.
pub const FILTER_KEY_STEPS: usize = 32;
/// Most fields of a collection that an index in memory is kept for; filters on others look at every record.
pub const FILTER_FIELDS: usize = 64;
/// Which part of a collection may pass a filter at most to be looked at record by record: one in so many.
pub const FILTER_FEW: u64 = 4;
/// Most declared fields of a collection that the engine filters by.
pub const FIELD_INDEXES: usize = 64;
/// Most tokens that a point has of one field; of more values it is only known that there are many.
pub const FIELD_TOKENS: usize = 1024;
/// Most values of vectors that a search looks through on the caller's own thread: about 0.2 milliseconds of work.
pub const SEARCH_AT_ONCE_VALUES: usize = 20 << 20;
/// How long a search waits for memory that others use for their indexes, in milliseconds.
pub const RESIDENT_WAIT_MS: u64 = 30_000;
/// Most records on one page of a listing.
pub const PAGE_RECORDS: usize = 10_000;
/// Sealed rows of memories that an open tenant keeps in memory, in bytes.
pub const MEMORY_CACHE_BYTES: u64 = 32 << 20;
/// Earlier versions kept of one memory.
pub const MEMORY_VERSIONS: usize = 64;
/// Most operations in one memory batch.
pub const MEMORY_BATCH: usize = 1024;
/// Journal bytes that may wait for a flush of the engine before one is made.
pub const JOURNAL_BYTES: usize = 64 << 20;
/// Journal entries that may wait for a flush of the engine before one is made.
pub const JOURNAL_ENTRIES: usize = 4096;
/// Longest line of an input file, in bytes.
pub const INPUT_LINE_BYTES: usize = 64 << 20;
/// Most bytes of input lines and attached vectors held for one batch, unless one record alone is larger.
pub const INPUT_BATCH_BYTES: usize = 32 << 20;
/// Longest header of a `.npy` file, in bytes (numpy's own bound).
pub const NPY_HEADER_BYTES: usize = 10_000;
/// Most texts in one request to an embeddings endpoint.
pub const EMBED_TEXTS: usize = 32;
/// Most bytes of text in one request to an embeddings endpoint, unless one text alone is longer.
pub const EMBED_REQUEST_BYTES: usize = 4 << 20;
/// Largest answer of an embeddings endpoint, in bytes.
pub const EMBED_RESPONSE_BYTES: usize = 64 << 20;
/// Most attempts at one request to an embeddings endpoint.
pub const EMBED_ATTEMPTS: u32 = 6;
/// Longest wait between two attempts, in milliseconds; an endpoint that asks for more ends the run.
pub const EMBED_WAIT_MS: u64 = 60_000;
/// Longest time one attempt may take, in milliseconds.
pub const EMBED_TIMEOUT_MS: u64 = 120_000;
/// Longest passphrase, in bytes.
pub const PASSPHRASE_BYTES: usize = 4096;
/// Largest header of a keystore, in bytes.
pub const KEYSTORE_HEADER_BYTES: u64 = 16 << 10;
/// Largest file of a tenant's keys, in bytes: of one with all the [`EPOCHS`] that there may be.
pub const TENANT_FILE_BYTES: u64 = 128 << 20;
/// Most epochs of one tenant, destroyed ones included.
pub const EPOCHS: usize = 65_536;
/// Most root keys of one tenant, destroyed ones included.
pub const ROOT_KEYS: usize = 4096;
/// Most root keys that a tenant gets within a day: earlier certificates are kept that long.
pub const ROOT_KEYS_A_DAY: usize = 32;
/// Sessions that one token's threads share. Tokens work on few things at once, and some allow only 16 sessions.
pub const TOKEN_SESSIONS: usize = 8;
/// Longest wait for a session of a token, in milliseconds.
pub const TOKEN_WAIT_MS: u64 = 10_000;
/// Most keys whose place in a token is remembered.
pub const TOKEN_HANDLES: usize = 4096;
/// Most bytes that a token wraps at once.
pub const TOKEN_WRAP_BYTES: usize = 1024;
/// Most items in one bulk request to the key service.
pub const KMS_ITEMS: usize = 4096;
/// Most bytes of messages in one bulk request to the key service.
pub const KMS_BYTES: usize = 64 << 20;
/// Items up to which a bulk request to the key service is worked on by the caller's own thread.
pub const KMS_ALONE_ITEMS: usize = 4;
/// Longest scope of a data key, in bytes.
pub const KEY_SCOPE_BYTES: usize = 256;
/// Most tenants whose keys the key service keeps ready.
pub const KMS_TENANTS: usize = 1024;
/// Most open sessions of one tenant, ended ones that are still remembered included.
pub const SESSIONS_PER_TENANT: usize = 4096;
/// Most open sessions of all tenants.
pub const SESSIONS: usize = 65_536;
/// Largest file of a session, in bytes.
pub const SESSION_FILE_BYTES: u64 = 64 << 10;
/// Most verified chains that the key service remembers.
pub const VERIFIED_CHAINS: usize = 4096;
/// Most session keys kept ready of one kind.
pub const POOL_KEYS: usize = 65_536;
/// How long onboarding waits for the pool's first session key, in milliseconds.
pub const POOL_WAIT_MS: u64 = 5_000;
/// Lookups of single memories that one event counts at most, and that a crash leaves without their digest.
pub const LOOKUPS_PER_EVENT: u64 = 1000;
/// Longest name of an action, in bytes.
pub const ACTION_NAME_BYTES: usize = 128;
/// Largest body of an action, in bytes.
pub const ACTION_BODY_BYTES: usize = 1 << 20;
/// Largest record of an action, in bytes.
pub const ACTION_RECORD_BYTES: usize = 1024;
/// Most actions in one call.
pub const ACTIONS: usize = 256;
/// Most actions that may wait to be signed.
pub const ACTIONS_QUEUED: usize = 65_536;
/// Actions that are remembered, so that the same again is no second one.
pub const ACTIONS_REMEMBERED: usize = 65_536;
/// How far the time of an action may be from the time where it is taken in, in milliseconds.
pub const ACTION_SKEW_MS: u64 = 300_000;
/// Shortest and longest wait before actions are handed over again, in milliseconds.
pub const ACTION_WAIT_MS: [u64; 2] = [50, 1_000];
/// Largest threshold of a rule that counts.
pub const ALERT_COUNT: u32 = 10_000;
/// Tenants whose usual volume is known.
pub const ALERT_TENANTS: usize = 4096;
/// Tenants and services that each rule counts for, and that were told of a moment ago.
pub const ALERT_SUBJECTS: usize = 4096;
/// Alerts in a minute, whatever they are about.
pub const ALERTS_PER_MINUTE: u32 = 60;
/// Latest alerts that are kept in memory.
pub const ALERTS_KEPT: usize = 256;
/// Events that may wait for the rules.
pub const ALERT_QUEUE: usize = 16_384;
/// Bytes read of a tenant in an hour that are never too many.
pub const ALERT_VOLUME_FLOOR_BYTES: u64 = 64 << 20;
/// A clock that is kept right gains or loses one part in so many at most against the machine's own.
pub const CLOCK_DRIFT: u64 = 2_000;
/// Largest file with what is usual, in bytes.
pub const BASELINE_BYTES: u64 = 64 << 20;
/// Tenants whose reads may be paused.
pub const BREAKERS: usize = 65_536;
/// Alerts that may wait for the webhook.
pub const WEBHOOK_QUEUE: usize = 256;
/// Attempts at posting an alert: over about two minutes.
pub const WEBHOOK_ATTEMPTS: usize = 8;
/// Longest wait between two of them, in milliseconds.
pub const WEBHOOK_WAIT_MS: u64 = 60_000;
/// How long one attempt may take, in milliseconds.
pub const WEBHOOK_TIMEOUT_MS: u64 = 10_000;
/// How long a process that ends goes on trying, in milliseconds.
pub const WEBHOOK_LINGER_MS: u64 = 2_000;
/// Longest entry of the audit log, in bytes: what the length in a bundle can say.
pub const AUDIT_ENTRY_BYTES: usize = 65_535;
/// Largest bundle of 256 entries, in bytes.
pub const AUDIT_BUNDLE_BYTES: usize = 256 * (AUDIT_ENTRY_BYTES + 2);
/// Longest line of a tenant's view of the audit log, in bytes.
pub const AUDIT_VIEW_LINE_BYTES: usize = 1 << 20;
/// Shortest time between two checkpoints that nobody asked for, in milliseconds.
pub const AUDIT_CHECKPOINT_MS: u64 = 10_000;
/// How often entries are put into the tree, in milliseconds.
pub const AUDIT_INTEGRATE_MS: u64 = 250;
/// Most entries that are put into the tree in one write.
pub const AUDIT_INTEGRATE_ENTRIES: u64 = 4096;
/// Most attempts at opening a log to read while another process writes it.
pub const AUDIT_READ_ATTEMPTS: u32 = 5;
/// Checkpoints that are kept.
pub const AUDIT_CHECKPOINTS: usize = 1024;
/// Largest checkpoint with its signatures, in bytes.
pub const AUDIT_NOTE_BYTES: usize = 512 << 10;
/// Most signatures under a checkpoint.
pub const AUDIT_SIGNATURES: usize = 32;
/// Cache of the audit log's database, in bytes.
pub const AUDIT_CACHE_BYTES: usize = 8 << 20;
/// Largest file of an audit log's key, in bytes.
pub const AUDIT_KEY_FILE_BYTES: u64 = 16 << 10;
/// Most bundles with wrong entries that a verifier compares to say what was done.
pub const AUDIT_DIFFERENCES: usize = 64;
/// Longest name of a service, in bytes.
pub const SERVICE_NAME_BYTES: usize = 128;
/// Shortest time that an epoch seals, in milliseconds: a minute.
pub const EPOCH_MIN_MS: u64 = 60_000;
/// Longest name of an agent, in bytes.
pub const AGENT_NAME_BYTES: usize = 64;
/// Largest certificate, in bytes; one signed with SLH-DSA-SHA2-192s has about 20 kB.
pub const CERTIFICATE_BYTES: usize = 64 << 10;
/// Most certificates in a chain or a file: authority, tenant, session.
pub const CHAIN_CERTIFICATES: usize = 3;
/// Largest file of certificates, in bytes.
pub const CERTIFICATE_FILE_BYTES: usize = 512 << 10;
/// How long an authority's certificate is valid, in milliseconds: ten years.
pub const AUTHORITY_CERTIFICATE_MS: u64 = 3652 * 86_400_000;
/// How long a tenant's certificate is valid, in milliseconds: two years.
pub const TENANT_CERTIFICATE_MS: u64 = 730 * 86_400_000;
/// Longest time that a session credential may be valid, in milliseconds: a day.
pub const SESSION_CREDENTIAL_MS: u64 = 86_400_000;
/// How far back a certificate's validity begins, in milliseconds, for readers whose clocks are slow.
pub const CERTIFICATE_SKEW_MS: u64 = 300_000;
/// Largest request or answer of the key service on the wire, in bytes.
pub const RPC_BYTES: usize = 16 << 20;
/// Longest list of headers of a request to the key service, in bytes.
pub const RPC_HEADER_BYTES: u32 = 32 << 10;
/// Most requests of one service that the key service works on at once.
pub const RPC_REQUESTS_PER_SERVICE: usize = 64;
/// Most connections of one service to the key service, and of all unknown peers together.
pub const RPC_CONNECTIONS_PER_SERVICE: usize = 256;
/// Most connections to the key service.
pub const RPC_CONNECTIONS: usize = 4096;
/// Most requests at once on one connection.
pub const RPC_STREAMS: u32 = 64;
/// Longest time that a request to the key service may take, from its headers to its answer, in milliseconds.
pub const RPC_REQUEST_MS: u64 = 60_000;
/// Longest time that a call of the Qdrant-compatible endpoint may take, in milliseconds: less than the transport lets it.
pub const QDRANT_REQUEST_MS: u64 = RPC_REQUEST_MS - 2_000;
/// Longest time that a TLS handshake may take, in milliseconds.
pub const TLS_HANDSHAKE_MS: u64 = 10_000;
/// How long certificates of `strongroom pki` are valid unless told otherwise, in days.
pub const PKI_DAYS: u32 = 90;
/// How long they can be valid, in days.
pub const PKI_DAYS_MOST: u32 = 825;
/// Most hosts of one of them.
pub const PKI_HOSTS: usize = 16;
/// Most authorities of one directory at a time.
pub const PKI_AUTHORITIES: usize = 8;
/// Most attempts to read a certificate and its key while they do not belong together.
pub const TLS_FILES_ATTEMPTS: u32 = 5;
/// How long to wait between two of them, in milliseconds.
pub const TLS_FILES_WAIT_MS: u64 = 20;
/// Most key exchanges of a refused peer that are written down.
pub const TLS_GROUPS_SHOWN: usize = 8;
/// How often certificates, keys and the file of services are looked at for changes, in milliseconds.
pub const RELOAD_MS: u64 = 1_000;
/// After how long a connection is ended in good order, so that its peer shows a certificate again, in milliseconds.
pub const RPC_CONNECTION_MS: u64 = 3_600_000;
/// How long a peer whose handshake failed may take to read why, in milliseconds.
pub const TLS_LINGER_MS: u64 = 1_000;
/// After how long of silence a peer is asked whether it is still there, in milliseconds.
pub const RPC_PING_MS: u64 = 30_000;
/// How long that answer may take, in milliseconds.
pub const RPC_PING_ANSWER_MS: u64 = 10_000;
/// How long a key service that is told to stop waits for what it works on, in milliseconds.
pub const RPC_DRAIN_MS: u64 = 20_000;
/// After how long without a call the connection to the key service is ended, with the keys that lie in its buffers, in
/// milliseconds.
pub const RPC_IDLE_MS: u64 = 5_000;
/// How long a call to the key service may take, retries included, unless told otherwise, in milliseconds.
pub const RPC_DEADLINE_MS: u64 = 10_000;
/// Most attempts at one call to the key service.
pub const RPC_ATTEMPTS: usize = 6;
/// Shortest and longest wait between two attempts, in milliseconds, before jitter.
pub const RPC_WAIT_MS: [u64; 2] = [50, 1_000];
/// How long an answer of the key directory may be kept, in seconds.
pub const DIRECTORY_MAX_AGE_S: u64 = 60;
/// Largest file of services, or of TLS keys and certificates, in bytes.
pub const SERVICE_FILE_BYTES: u64 = 1 << 20;
/// Most services in one file.
pub const SERVICES: usize = 4096;
/// Longest that a key which signs tokens or envelopes is used, in milliseconds.
pub const SIGNER_LIFE_MS: u64 = 43_200_000;
/// How long a signer is believed without asking the key service again, and one's own is used before asking again for
/// another that could not be had, in milliseconds.
pub const SIGNER_RECHECK_MS: u64 = 10_000;
/// Tenants that a process signs for at most.
pub const SIGNERS: usize = 4096;
/// Signers of others that are remembered.
pub const VERIFIED_SIGNERS: usize = 4096;
/// Longest name of a sidecar, in bytes.
pub const AUDIENCE_BYTES: usize = 64;
/// Longest token, in bytes: 32 listed records and the longest signature take 6 KiB.
pub const TOKEN_BYTES: usize = 8 << 10;
/// Longest life of a token, in milliseconds.
pub const TOKEN_LIFE_MS: u64 = 300_000;
/// By how much the clock of an issuer may be ahead, in milliseconds.
pub const TOKEN_SKEW_MS: u64 = 5_000;
/// Most records of a token.
pub const TOKEN_RECORDS: usize = 4096;
/// Most records that a token lists one by one; of more it has the root of a tree.
pub const TOKEN_LISTED: usize = 32;
/// Longest path in a token's tree.
pub const TOKEN_PATH: usize = 12;
/// Most uses of a token.
pub const TOKEN_USES: u32 = 1_000_000;
/// Largest context window, in bytes.
pub const CONTEXT_BYTES: usize = 8 << 20;
/// Verified tokens that a sidecar remembers.
pub const VERIFIED_TOKENS: usize = 16_384;
/// How long a contact lasts, in milliseconds.
pub const CONTACT_LIFE_MS: u64 = 900_000;
/// Most records of one request to a sidecar.
pub const REDEEM_RECORDS: usize = 256;
/// Most bytes of records in one request to a sidecar, and of what is opened for it.
pub const REDEEM_BYTES: usize = 12 << 20;
/// Tokens whose uses a sidecar counts at a time.
pub const LEDGER_TOKENS: usize = 1_000_000;
/// Revocations that a sidecar keeps.
pub const REVOCATIONS: usize = 100_000;
/// Contacts of a sidecar at a time.
pub const CONTACTS: usize = 65_536;
/// Contacts of one service with a sidecar at a time.
pub const CONTACTS_PER_SERVICE: usize = 8192;
/// Contacts of one service for one holder at a time.
pub const CONTACTS_PER_HOLDER: usize = 64;
/// Tenants whose keys a sidecar holds at a time.
pub const SIDECAR_TENANTS: usize = 1024;
/// After how long a sidecar fetches the keys of a tenant anew, in milliseconds.
pub const KEYRING_AGE_MS: u64 = 60_000;
/// How long a sidecar does not ask again for an epoch that it does not know, in milliseconds.
pub const KEYRING_RETRY_MS: u64 = 1_000;
/// How often a sidecar lets go of what has expired, in milliseconds.
pub const SIDECAR_SWEEP_MS: u64 = 5_000;
/// Largest payload of an envelope, in bytes.
pub const ENVELOPE_PAYLOAD_BYTES: usize = 16 << 20;
/// Largest envelope, in bytes: a payload, and a header with a chain.
pub const ENVELOPE_BYTES: usize = ENVELOPE_PAYLOAD_BYTES + (256 << 10);
/// Longest correlation that an application may set, in bytes.
pub const ENVELOPE_CORRELATION_BYTES: usize = 256;
/// Longest time between an envelope's issue and its expiry, in milliseconds.
pub const ENVELOPE_LIFE_MS: u64 = 300_000;
/// How far ahead of the receiver's clock an envelope may be issued, in milliseconds.
pub const ENVELOPE_SKEW_MS: u64 = 5_000;
/// Most envelopes of one session: as many as AES-GCM may seal with one key (NIST SP 800-38D, section 8.3).
pub const ENVELOPES_PER_SESSION: u64 = 1 << 32;
/// Most sessions that one interceptor receives in.
pub const ENVELOPE_SESSIONS: usize = 4096;
/// How long an interceptor relies on its own session being open, in milliseconds.
pub const ENVELOPE_SESSION_RECHECK_MS: u64 = 10_000;
/// Most envelopes in one bulk call.
pub const ENVELOPE_BULK: usize = 4096;
/// Largest invitation, in bytes.
pub const INVITATION_BYTES: usize = 224 << 10;
/// Most headers, and most trailers, of a request or an answer in an envelope.
pub const ENVELOPE_FIELDS: usize = 128;

/// Candidates of a veiled collection that are opened for a search, unless it is plain before that no other is better.
pub const VEILED_CANDIDATES: usize = 200;
/// As many for each result that is wanted, where that is more.
pub const VEILED_OVERFETCH: usize = 8;
/// How many times as many may be opened where only some records may be found.
pub const VEILED_FILTERED: usize = 8;
/// Results that each part of a veiled collection is asked for at least.
pub const VEILED_PART_RESULTS: usize = 40;
/// Records that a rotation moves in one write. Who writes the same records waits for it.
pub const ROTATION_ROWS: usize = 512;
/// As many while somebody uses the store: that wait is to go unnoticed.
pub const ROTATION_ROWS_BESIDE: usize = 8;
/// Rows that go at a time from which on their whole range is removed at once.
pub const ROTATION_RANGE: usize = 128;
/// Bytes of records that a rotation moves in one write, about.
pub const ROTATION_BYTES: usize = 1 << 20;
/// Chunks that tokens may name and that a rotation minds when it moves them; of more, those used longest ago are fetched
/// no more by name.
pub const HANDED_OUT: u64 = 262_144;
/// Bytes of such chunks that are kept as they were for whom their place was handed to.
pub const HANDED_OUT_BYTES: u64 = 64 << 20;
/// How often a sealed search is done anew because what it found moved before it could be handed out.
pub const HANDED_OUT_TRIES: usize = 3;
/// Namespaces that a rotation remembers to have labelled in the new epoch.
pub const ROTATION_NAMESPACES: usize = 65_536;
/// Largest backup of a keystore, in bytes: of about fifty thousand tenants.
pub const KEYSTORE_BACKUP_BYTES: u64 = 1 << 30;
/// Most backups in one directory.
pub const BACKUPS: usize = 4096;
/// Most bytes of points in one bucket of a backup, unless one point alone is larger.
pub const BACKUP_BUCKET_BYTES: usize = 2 << 20;
/// Largest part of a file of the database in a backup, in bytes.
pub const BACKUP_FILE_PART_BYTES: u64 = 4 << 20;
/// Largest part of a backup, in bytes: a bucket with one point that is as large as a write may be.
pub const BACKUP_PART_BYTES: u64 = 80 << 20;
/// Largest manifest of a backup, in bytes: that of about a million buckets.
pub const BACKUP_MANIFEST_BYTES: u64 = 256 << 20;
/// Longest name of a file of the database, in bytes.
pub const BACKUP_FILE_NAME_BYTES: usize = 64;
/// Points that a backup reads from an engine at a time.
pub const BACKUP_PAGE_POINTS: usize = 256;
/// How many backups and verifications a service remembers that it was asked for, ended ones included.
pub const ADMIN_RUNS: usize = 64;
/// Records of one kind that a service names of those that a verification has found.
pub const VERIFY_NAMED: usize = 1000;
/// How long a backup waits for a collection that is being closed, in milliseconds.
pub const BACKUP_WAIT_MS: u64 = 30_000;
/// Most connections to a Qdrant server.
pub const QDRANT_CONNECTIONS: usize = 64;
/// Most attempts at one call to a Qdrant server.
pub const QDRANT_ATTEMPTS: usize = 5;
/// Shortest and longest wait between two of them, in milliseconds, before jitter.
pub const QDRANT_WAIT_MS: [u64; 2] = [50, 1_000];
/// After how long of silence a Qdrant server is asked whether it is still there, in milliseconds.
pub const QDRANT_PING_MS: u64 = 5_000;
/// How long that answer may take, in milliseconds.
pub const QDRANT_PING_ANSWER_MS: u64 = 5_000;
/// Most points in one write to a Qdrant server.
pub const QDRANT_WRITE_POINTS: usize = 512;
/// Most bytes in one write to a Qdrant server, unless one point alone is larger.
pub const QDRANT_WRITE_BYTES: usize = 8 << 20;
/// Most points that a Qdrant server is asked for at a time.
pub const QDRANT_READ_POINTS: usize = 512;
/// Largest message of a Qdrant server, in bytes: one point that is as large as a write may be. Of an answer that is larger,
/// half is asked for.
pub const QDRANT_ANSWER_BYTES: usize = 96 << 20;
/// Longest API key of Qdrant, in bytes: it may be a token with claims.
pub const QDRANT_API_KEY_BYTES: usize = 4096;
/// Points that a collection moves at a time: who writes waits for that.
pub const MIGRATE_POINTS: usize = 128;
/// Points that an engine may list beyond twice as many as there are records: what late writes have left.
pub const STRANGE_POINTS: usize = 100_000;
/// Most API keys of the Qdrant-compatible endpoint: as many as its file has room for.
pub const API_KEYS: usize = 2048;
/// Longest label of an API key, in bytes.
pub const API_KEY_LABEL_BYTES: usize = 128;
/// Most requests with one API key that are worked on at once.
pub const QDRANT_REQUESTS_PER_KEY: usize = 64;
/// Largest request to the Qdrant-compatible endpoint, in bytes (Qdrant's own default).
pub const QDRANT_BODY_BYTES: usize = 32 << 20;
/// Bytes of requests that it reads at a time, all together.
pub const QDRANT_BODIES_BYTES: usize = 256 << 20;
/// How many of these may be of one API key: twice the largest request.
pub const QDRANT_BODIES_BYTES_PER_KEY: usize = 64 << 20;
/// Largest answer of it over gRPC, to a batch of questions, and of what is in any answer more than once, in bytes.
pub const QDRANT_GRPC_ANSWER_BYTES: usize = 256 << 20;
/// Most points that it shows at once, and most groups times their size.
pub const QDRANT_POINTS: usize = 10_000;
/// Most questions, and most operations, in one batch to it.
pub const QDRANT_BATCH: usize = 256;
/// How deep prefetches may lie in each other.
pub const QDRANT_PREFETCH_DEPTH: usize = 8;
/// Most distinct values that are counted for facets, or grouped by.
pub const QDRANT_VALUES: usize = 100_000;
/// Shortest time between two events in the audit log of API keys that are not good, in milliseconds.
pub const QDRANT_REFUSAL_NOTED_MS: u64 = 1_000;
/// Other names of a tenant's collections.
pub const ALIASES: usize = 1024;
/// Fields that are declared of one collection.
pub const DECLARED_FIELDS: usize = 256;
/// Largest record of aliases, declared fields and metadata of a tenant's collections, in bytes.
pub const NOTES_BYTES: usize = 1 << 20;
/// How deep arrays and objects lie in each other in metadata and what else of JSON is kept: what is deeper cannot be read
/// again.
pub const JSON_DEPTH: usize = 64;
/// Chunks that are opened at a time while all are looked through.
pub const LOOK_CHUNKS: usize = 256;
/// Chunks that are read, changed and written together.
pub const CHANGE_CHUNKS: usize = 128;
/// How often a change is tried again because others wrote the same chunks.
pub const CHANGE_TRIES: usize = 64;
