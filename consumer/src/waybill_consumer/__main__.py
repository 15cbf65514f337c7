from waybill_consumer.cli import main

main()
