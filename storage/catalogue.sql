-- :tables
-- Tables and partitioned tables with their columns and constraints.
SELECT format(E'TABLE %s%s\n%s%s', c.relname,
              CASE WHEN c.relkind = 'p' THEN ' PARTITION BY ' || pg_get_partkeydef(c.oid) ELSE '' END,
              (SELECT string_agg(format('    %s %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                                        CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
                                        CASE a.attidentity WHEN 'a' THEN ' IDENTITY ALWAYS' WHEN 'd' THEN ' IDENTITY' ELSE '' END,
                                        coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')),
                                 E'\n' ORDER BY a.attname)
                 FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
              coalesce((SELECT E'\n' || string_agg(format('    %s: %s', k.conname, pg_get_constraintdef(k.oid)), E'\n' ORDER BY k.conname)
                          FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'n'), ''))
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
 ORDER BY c.relname;

-- :indexes
-- Indexes that no constraint stands behind.
SELECT pg_get_indexdef(i.indexrelid)
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_class x ON x.oid = i.indexrelid
 WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
 ORDER BY x.relname;

-- :views
-- Views with their queries.
SELECT format(E'VIEW %s\n%s', viewname, definition) FROM pg_views WHERE schemaname = 'public' ORDER BY viewname;

-- :functions
-- Functions of this project, not of an extension.
SELECT format(E'FUNCTION %s(%s) RETURNS %s%s\n%s', p.proname, pg_get_function_identity_arguments(p.oid),
              pg_get_function_result(p.oid), CASE WHEN p.prosecdef THEN ' SECURITY DEFINER' ELSE '' END, p.prosrc)
  FROM pg_proc p
 WHERE p.pronamespace = 'public'::regnamespace
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
 ORDER BY p.proname, 1;

-- :triggers
-- Triggers that were written, not those behind constraints.
SELECT pg_get_triggerdef(t.oid)
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
 WHERE NOT t.tgisinternal AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
 ORDER BY t.tgname;

-- :domains
-- Domains with their rules.
SELECT format('DOMAIN %s AS %s: %s', t.typname, format_type(t.typbasetype, t.typtypmod),
              (SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY k.conname) FROM pg_constraint k WHERE k.contypid = t.oid))
  FROM pg_type t
 WHERE t.typnamespace = 'public'::regnamespace AND t.typtype = 'd'
 ORDER BY t.typname;
