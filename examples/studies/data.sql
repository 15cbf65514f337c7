-- Two tenants of one organization: projects p1 and p2 with apps a1 to a3, studies s1 and s2 with six participants each, thirty days up to
-- the variable `today`. Every seventh record belongs to no study.
create table hsi as
select tenant_id, tenant_no * 100000 + n as id, 'session-' || (n // 4) as session_id, 'p' || (n % 2 + 1) as project_id,
    'a' || (n % 3 + 1) as app_id, case when n % 7 > 0 then 's' || (n % 2 + 1) end as study_id,
    case when n % 7 > 0 then 's' || (n % 2 + 1) || '-person-' || (n % 6 + 1) end as participant_id,
    (getvariable('today')::timestamptz - to_hours(n)) as recorded_at,
    ['focus', 'stress', 'arousal', 'valence'][n % 4 + 1] as axis, (hash(n) % 1000 / 1000)::decimal(4, 3) as score,
    0.5 + (n % 50) / 100 as confidence,
    json_object('device', json_object('model', 'band ' || (n % 3), 'firmware', '1.' || (n % 9)), 'moving', n % 5 = 0,
        'access_token', getvariable('planted') || n) as context,
    recorded_at as updated_at, getvariable('planted') || 'device key' as device_api_key
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(720) as numbers(n);

create table lab as
select tenant_id, tenant_no * 100000 + n as id, 'p' || (n % 2 + 1) as project_id, 'a' || (n % 3 + 1) as app_id, 's' || (n % 2 + 1) as study_id,
    's' || (n % 2 + 1) || '-person-' || (n % 6 + 1) as participant_id,
    (getvariable('today')::timestamptz - to_hours(n * 6)) as recorded_at,
    ['glucose', 'cortisol', 'lactate'][n % 3 + 1] as test, (60 + hash(n) % 4000 / 100)::decimal(6, 2) as value,
    ['mg/dL', 'µg/dL', 'mmol/L'][n % 3 + 1] as unit, n % 2 = 0 as fasting,
    case n % 10 when 0 then '=repeat after 24 h' when 1 then 'hemolytic, "repeat"' when 2 then '' end as remarks, recorded_at as updated_at
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(120) as numbers(n);
