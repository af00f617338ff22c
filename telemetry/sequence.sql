-- :read
-- The bits of the blocks asked for.
SELECT unit_id, life, boot, block, heard
  FROM unit_sequence
  JOIN unnest(%(unit_ids)s::int[], %(lives)s::smallint[], %(boots)s::bigint[], %(blocks)s::int[])
       AS wanted (unit_id, life, boot, block) USING (unit_id, life, boot, block);

-- :write
-- Write blocks whose bits changed, new ones included.
INSERT INTO unit_sequence (unit_id, life, boot, block, heard)
SELECT * FROM unnest(%(unit_ids)s::int[], %(lives)s::smallint[], %(boots)s::bigint[], %(blocks)s::int[],
                     %(heard)s::bytea[])
ON CONFLICT (unit_id, life, boot, block) DO UPDATE SET heard = excluded.heard;
