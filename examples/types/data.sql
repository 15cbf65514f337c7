-- Two tenants of one organization; a year up to the variable `today`.
create table employees as
select tenant_id, ('00000000-0000-4000-8000-' || lpad((tenant_no * 1000 + n)::varchar, 12, '0'))::uuid as id, 'Person ' || n as name,
    'person' || n || '@example.com' as email, ['nurse', 'therapist', 'clerk'][n % 3 + 1] as position,
    getvariable('today')::timestamptz - to_days(n * 9) as hired_at, (20 + n % 30)::decimal(8, 2) as hourly_rate, n % 8 > 0 as is_active,
    hired_at as updated_at, getvariable('planted') || n as password
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(40) as numbers(n);

create table appointments as
select tenant_id, tenant_no * 100000 + n as id, 'patient' || (n % 30) as patient_id, 'Person ' || (n % 40) as employee,
    getvariable('today')::timestamptz - to_hours(n * 9) as starts_at, 30 + n % 4 * 15 as minutes, ['booked', 'kept', 'missed'][n % 3 + 1] as status,
    case n % 6 when 0 then '=SUM(A1:A9)' when 1 then '+49 30 1234' when 2 then '@team: bring forms' when 3 then 'https://example.com/form' end as notes,
    starts_at as updated_at
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(960) as numbers(n);

create table audit_log as
select tenant_id, tenant_no * 100000 + n as id, getvariable('today')::timestamptz - to_hours(n * 12) as occurred_at, 'person' || (n % 40) as actor,
    ['create', 'update', 'delete'][n % 3 + 1] as action,
    json_object('before', json_object('status', 'booked'), 'after', json_object('status', 'kept', 'session_token', getvariable('planted') || n)) as details
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(700) as numbers(n);
